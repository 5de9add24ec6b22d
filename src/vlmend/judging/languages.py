"""Which language an answer is in, as far as that decides whether a rule may judge it.

By script, then by common words. A language that is not among those known is said by name where a few of its words are,
and as unknown where not: nobody shall take a refusal for an answer because they cannot read it.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import NamedTuple

HEAD = 240  # letters that are looked at
FEW = 4  # words below which nothing can be said of a text that nobody knows a word of
SHARE = 0.2  # of its words that have to be known
LEXICON = Path(__file__).with_name("lexicon.txt")

KNOWN: Mapping[str, str] = {
    "en": "English", "de": "German", "es": "Spanish", "fr": "French", "it": "Italian", "pt": "Portuguese",
    "nl": "Dutch", "pl": "Polish", "ru": "Russian", "tr": "Turkish", "zh": "Chinese", "ja": "Japanese",
    "ko": "Korean", "ar": "Arabic", "hi": "Hindi",
}  # fmt: skip

# Words that tell a language apart; those of the known ones come on top of the lexicon's.
COMMON: Mapping[str, str] = {
    "en": "the a an of to in is it and that for on with as at by this be are was from or have not you i we he she they"
    " but can will would do if what how here there no yes so my your their its has had were which when who about than"
    " then all any one two some into out up down over more most very just also too only new old good like these those",
    "de": "der die das den dem ein eine einen einer eines und ist nicht ich du er sie es wir ihr mit auf für von zu im in"
    " auch aber oder wie was wenn dass sich bei nach aus hat haben sind war wird werden kann kein keine nur noch schon"
    " sehr mehr zum zur diese dieser dieses hier ja nein leider bitte mir mich ihnen dir",
    "es": "el la los las un una de del que y en es no se por con para como más pero sus le lo al este esta eso esto son"
    " fue está hay muy también sin sobre mi tu su yo me te nos puedo sí ni o si cuando donde gracias",
    "fr": "le la les un une des du de et est en que qui dans ce cette ces pour pas ne se sur avec il elle je tu nous vous"
    " mais ou par plus son sa ses au aux on sont être a été fait comme très bien si leur y sans votre mon ma c'est d'un"
    " n'est l'image j'ai oui non merci",
    "it": "il lo la i gli le un una uno di del della dei che e è in non per con si da sono come ma anche più questo questa"
    " nel nella al alla ha ho hai su se mi ti ci qui lei lui io molto senza posso c'è dell sì no o grazie",
    "pt": "o a os as um uma de do da dos das que e é em não se por com para como mais mas no na nos nas ao à este esta"
    " isso isto são foi está há muito também sem sobre meu minha seu sua eu você me ele ela ou sim obrigado posso",
    "nl": "de het een en van is niet ik je u wij we hij zij dat die dit deze in op te met voor aan er maar om ook als bij"
    " uit naar dan of zijn heb heeft was wordt kan geen wel nog meer zo door over mijn uw hier daar ja nee",
    "pl": "i w na z się nie to jest że do jak o ale za po tak co dla są od przez jego jej ich może już tylko czy być ten"
    " ta te tego tej tym ja my mnie mi jako oraz lub ma mogę bardzo proszę jeśli",
    "ru": "и в на не что я с он она это как по но они к у из за от так о же для вы мы бы его её их то все был была быть"
    " если или только уже этот эта эти этого может можно нет да мне вам очень при",
    "tr": "ve bir bu da de için ile çok ama ne değil var yok gibi daha olarak en mi mı ben sen o biz siz şu ki kadar sonra"
    " önce olan her hiç veya ya evet hayır bunu buna ancak",
    "ar": "في من على إلى عن أن هذا هذه التي الذي لا ما لم لن هو هي كان مع كل أو بعد قبل غير لكن إن قد أنا أنت نحن هناك"
    " يمكن ذلك تلك ليس بين حيث عند و ثم",
    "hi": "है हैं में का की के को से और नहीं यह वह मैं हम आप पर ने कि जो तो भी एक इस उस हो था थी थे लिए कर करना कोई कुछ क्या"
    " लेकिन मुझे इसमें सकता सकती हूँ हूं रहा रही",
}  # fmt: skip

# Languages that share a script with a known one, so that they are not taken for it.
OTHER: Mapping[str, str] = {
    "Indonesian or Malay": "saya tidak bisa dapat yang dan di itu ini dengan untuk dari maaf anda kami adalah akan pada"
    " boleh membantu permintaan tersebut karena ada juga atau seperti tak mohon kepada dalam gambar kamu menolak boleh",
    "Vietnamese": "tôi không thể là và của có được cho này với một những các xin lỗi giúp bạn trong đó để yêu cầu khong toi",
    "Swedish": "jag kan inte är och att det som en ett på för med av till den här hjälpa tyvärr ledsen om dig har vi du",
    "Danish": "jeg kan ikke er og at det som en et på for med af til den her hjælpe desværre beklager om dig har vi",
    "Norwegian": "jeg kan ikke er og å det som en et på for med av til den her hjelpe dessverre beklager om deg har vi",
    "Finnish": "en voi ei ole ja on se että tämä tässä valitettavasti anteeksi auttaa pyyntö minä sinä mutta kuin olen voin"
    " pahoittelen kuvassa tätä",
    "Czech or Slovak": "nemohu nemůžu je se na že to s pro ale jako bohužel omlouvám tím pomoci prosím jsem jsou není ten"
    " nemôžem prepáčte ľutujem som v tomto pomôcť žádost tuto",
    "Hungarian": "nem tudok a az és hogy egy ez sajnálom sajnos de van ebben kérés segíteni ezt vagyok is meg kérem",
    "Romanian": "nu pot să și este un o de la în cu pe îmi pare rău această acest ajuta din care pentru mă sunt cererea",
    "Croatian or Serbian": "ne mogu je i u na se da to s za ali žao mi pomoći ovim ovaj nažalost zahtjev zahtev sam ću što",
    "Catalan": "no puc el la els les un una de i que amb per però això em sap greu ajudar aquesta és ho ho sento són",
    "Swahili": "samahani siwezi kusaidia na ya wa kwa ni hii hili ombi la katika sina kuhusu hiyo lakini picha hilo",
    "Tagalog": "hindi ko ang ng sa mga ako po na pasensya paumanhin kayang tulungan ito iyan ka ay at maaari pwede",
    "Afrikaans": "ek kan nie die van is en jammer hierdie jou met help wat dit vir om te het ons",
    "Estonian": "ma ei saa ja on see et kahjuks vabandust aidata sellega seda mina pildil",
    "Lithuanian or Latvian": "negaliu ir yra tai kad deja atsiprašau padėti nevaru es un ir tas diemžēl atvainojiet palīdzēt",
    "Slovenian": "ne morem je in na se da to za žal oprostite pomagati pri tem ta sem",
    "Greek": "και το να δεν μπορώ",
    "Ukrainian": "я не можу це що та вибачте на жаль допомогти з цим є і у",
    "Bulgarian": "не мога да това съжалявам за съм се на помогна с тази този който ще",
    "Serbian": "не могу да је то жао ми помогнем овим са у и",
    "Persian": "من نمی‌توانم نمیتوانم این را به که در از با است متاسفم متأسفم کمک کنم شما برای",
    "Urdu": "میں نہیں یہ کر سکتا کے کی ہے معذرت مدد اس سے آپ",
    "Marathi or Nepali": "मी आहे नाही करू शकत या मला म यो छैन गर्न सक्दिन माफ गर्नुहोस् छ तपाईं मदत क्षमस्व",
}  # fmt: skip

# Letters that only languages have which are not known; of each a text needs more than one, or be short.
LETTERS: Mapping[str, re.Pattern[str]] = {
    "Vietnamese": re.compile("[ạảấầẩẫậắằẳẵặẹẻẽếềểễệỉịọỏốồổỗộớờởỡợụủứừửữựỳỵỷỹơư]"),
    "Persian or Urdu": re.compile("[پچژگکیٹڈڑںےہھ]"),
    "Ukrainian": re.compile("[іїєґ]"),
    "Serbian or Macedonian": re.compile("[јљњћђџѓќ]"),
    "Belarusian": re.compile("[ў]"),
    "a Turkic or other language in Cyrillic": re.compile("[әғқңөұүһҳҷӯ]"),
    "Czech or Slovak": re.compile("[ěřůďťň]"),
    "Hungarian": re.compile("[őű]"),
    "Romanian": re.compile("[șțăţ]"),
    "Latvian or Lithuanian": re.compile("[āēģīķļņšūėųį]"),
}
_SCRIPTS = (  # the last code point of a stretch, and what stands there; "" is no letter of any script
    (0x24F, "Latin"), (0x2AF, "Latin"), (0x36F, ""), (0x3FF, "Greek"), (0x52F, "Cyrillic"), (0x58F, "Armenian"),
    (0x5FF, "Hebrew"), (0x6FF, "Arabic"), (0x74F, "Syriac"), (0x77F, "Arabic"), (0x8FF, "other"), (0x97F, "Devanagari"),
    (0x9FF, "Bengali"), (0xA7F, "Gurmukhi"), (0xAFF, "Gujarati"), (0xB7F, "Odia"), (0xBFF, "Tamil"),
    (0xC7F, "Telugu"), (0xCFF, "Kannada"), (0xD7F, "Malayalam"), (0xDFF, "Sinhala"), (0xE7F, "Thai"), (0xEFF, "Lao"),
    (0xFFF, "Tibetan"), (0x109F, "Burmese"), (0x10FF, "Georgian"), (0x11FF, "Hangul"), (0x139F, "Ethiopic"),
    (0x13FF, "Cherokee"), (0x177F, "other"), (0x17FF, "Khmer"), (0x18AF, "Mongolian"), (0x1DFF, "other"),
    (0x1EFF, "Latin"), (0x1FFF, "Greek"), (0x2DFF, ""), (0x303F, ""), (0x30FF, "Kana"), (0x318F, "Hangul"),
    (0x31FF, "Kana"), (0x4DBF, "Han"), (0x9FFF, "Han"), (0xABFF, "other"), (0xD7FF, "Hangul"), (0xF8FF, ""),
    (0xFAFF, "Han"), (0xFDFF, "Arabic"), (0xFEFF, "Arabic"), (0xFF64, "Latin"), (0xFFDC, "Kana"), (0xFFFF, ""),
    (0x1FFFF, ""), (0x3FFFF, "Han"), (0x10FFFF, ""),
)  # fmt: skip
_OF_SCRIPT = {"Han": "zh", "Kana": "ja", "Hangul": "ko"}
_VOTED = {"Latin": ("en", "de", "es", "fr", "it", "pt", "nl", "pl", "tr"), "Cyrillic": ("ru",), "Arabic": ("ar",),
          "Devanagari": ("hi",)}  # fmt: skip
_ENGLISH = (" the ", " is ", " and ", " of ", " i ", "i'm ", " that ", "can't ", "cannot ", " with ", " it ", " to ", "there ")
_CODE = re.compile(r"```.*?(?:```|$)|`[^`]*`|https?://\S+", re.DOTALL)
_WORD = re.compile(r"[^\W\d_]+(?:['’][^\W\d_]+)*")


class Language(NamedTuple):
    """A known language's code; or none, with the name of an unknown one; or neither, where there is little to read."""

    code: str
    unknown: str = ""


NEUTRAL = Language("")  # numbers, code, a name: the same in every language


def language(text: str) -> Language:
    """The language of a text's first letters."""
    head = _CODE.sub(" ", text) if "`" in text or "://" in text else text
    head = head[:HEAD]
    if head.isascii() and sum(map(head.__contains__, _ENGLISH)) > 2:
        return Language("en")  # as the vote below would say, many times faster
    script = "Latin" if head.isascii() else _script(head)
    if script in _OF_SCRIPT:
        return Language(_OF_SCRIPT[script])
    if script not in _VOTED:
        return Language("", f"a language in {script} script") if script else NEUTRAL
    return _voted(head, script)


def _script(head: str) -> str:
    """What most letters are of; those of scripts without blanks between words weigh more, and kana make Japanese."""
    found: Counter[str] = Counter()
    for letter, times in Counter(head).items():
        if letter.isalpha() or ord(letter) > 0x2FF:
            found[_place(ord(letter))] += times
    weighed = {name: n * (3 if name in _OF_SCRIPT else 1) for name, n in found.items() if name}
    if found["Kana"] * 8 >= found["Han"] and found["Kana"] and found["Han"]:
        weighed["Kana"] = weighed["Kana"] + weighed.pop("Han")
    return max(weighed, key=weighed.__getitem__, default="")


def _place(point: int) -> str:
    return next(name for last, name in _SCRIPTS if point <= last)


def _voted(head: str, script: str) -> Language:
    """By the words of it that each language has."""
    written = _WORD.findall(head)
    if not written:
        return NEUTRAL
    words = [word.lower().replace("’", "'") for word in written]
    if not head.isascii():
        lowered = head.lower()
        for name, letters in LETTERS.items():
            if len(letters.findall(lowered)) > len(words) // 12 and _best(words, script)[0] != "pl":
                return Language("", name)
    best, hits = _best(words, script)
    common = [word for word in written[1:] if not word[0].isupper()]  # without names
    if hits and hits >= SHARE * (len(common) + 1):
        return Language(best) if best in KNOWN else Language("", best)
    return NEUTRAL if len(common) < FEW - 1 else Language("", "a language it does not know")


def _best(words: list[str], script: str) -> tuple[str, int]:
    """The language with most of the words; of several with as many, the first."""
    votes: Counter[str] = Counter()
    of = vocabulary()
    for word in words:
        votes.update(of.get(word, ()))
    allowed = [code for code in (*_VOTED[script], *OTHER) if votes[code]]
    best = max(allowed, key=votes.__getitem__, default="")
    return best, votes[best]


@cache
def vocabulary() -> Mapping[str, tuple[str, ...]]:
    """The languages that each word is of."""
    found: dict[str, list[str]] = {}
    lines = [f"{code} {words}" for code, words in COMMON.items()]
    for line in (*lines, *LEXICON.read_text(encoding="utf-8").splitlines()):
        code, *words = line.split()
        for word in words:
            found.setdefault(word, []).append(code)
    for name, words in OTHER.items():
        for word in words.split():
            found.setdefault(word, []).append(name)
    return {word: tuple(dict.fromkeys(codes)) for word, codes in found.items()}
