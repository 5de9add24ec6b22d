"""How refusals open in other languages than English: a list with a version, made for this project.

Each pattern needs a word of declining together with its verb, since apologies and "cannot" alone also open answers ("no
puedo ver personas"). Texts are lower-cased, and apostrophes are straight, before they are searched.
"""

from __future__ import annotations

import re

VERSION = 1


def _words(text: str) -> str:
    return "(?:" + "|".join(text.split()) + ")"


_GERMAN = _words("helfen beantworten geben bereitstellen unterstützen nachkommen erfüllen liefern teilen machen tun"
                 " weiterhelfen behilflich erstellen schreiben anbieten identifizieren")  # fmt: skip
_SPANISH = _words("ayudar proporcionar responder cumplir ofrecer dar darte compartir hacer asistir participar generar"
                  " crear atender ayudarte ayudarle brindar identificar apoyar")  # fmt: skip
_FRENCH = _words("aider fournir répondre donner partager faire accéder participer générer créer assister proposer"
                 " identifier soutenir")  # fmt: skip
_ITALIAN = _words("aiutare aiutarti aiutarla fornire rispondere dare condividere fare assistere partecipare generare"
                  " creare soddisfare identificare")  # fmt: skip
_PORTUGUESE = _words("ajudar fornecer responder dar compartilhar partilhar fazer ajudá-lo atender participar gerar"
                     " criar oferecer auxiliar identificar")  # fmt: skip
_DUTCH = _words("helpen geven beantwoorden bieden delen doen voldoen ondersteunen maken verstrekken")
_POLISH = _words("pomóc udzielić odpowiedzieć spełnić podać zrobić dostarczyć wygenerować opisać")
_RUSSIAN = _words("помочь помогать ответить предоставить выполнить дать сделать поделиться создать обсуждать помочь")

OPENINGS: dict[str, str] = {
    "de": r"\bich (?:kann|darf|werde|möchte|will) "
    rf"(?:[\w']+ ){{0,8}}(?:nicht|keine?[nmr]?)\b[^.!?]{{0,60}}?\b{_GERMAN}\b"
    rf"|\b(?:dabei|damit|das|leider|hierbei) (?:kann|darf|werde|möchte) ich (?:[\w']+ ){{0,6}}(?:nicht|keine?[nmr]?)\b"
    rf"[^.!?]{{0,60}}?\b{_GERMAN}\b"
    r"|\btut mir leid,? (?:aber |doch )?(?:das|dabei|ich|da|hier)\b[^.!?]{{0,60}}?\bnicht\b",
    "es": rf"\bno (?:puedo|podemos|podré|voy a|me es posible|estoy autorizad[oa] a)(?: [\w']+){{0,2}}? {_SPANISH}\b"
    r"|\b(?:lo siento|lo lamento|perdón|disculpa|disculpe)\b[^.!?]{0,30}\bno (?:puedo|podemos|es posible|voy a)\b"
    r"(?! (?:ver|distinguir|leer))",
    "fr": rf"\bje ne (?:peux|puis|veux|vais|pourrai|saurais)(?: pas)?(?: [\w']+){{0,2}}? {_FRENCH}\b"
    rf"|\bje ne suis pas (?:en mesure|autorisée?|capable) (?:de |d')(?:[\w']+ ){{0,2}}?{_FRENCH}\b"
    r"|\b(?:désolée?|navrée?|je regrette)\b[^.!?]{0,30}\b(?:je ne (?:peux|puis)|c'est impossible)\b"
    r"(?! (?:pas )?(?:voir|lire|distinguer))",
    "it": rf"\bnon (?:posso|possiamo|potrò|sono in grado di|intendo)(?: [\w']+){{0,2}}? {_ITALIAN}\b"
    r"|\b(?:mi dispiace|spiacente|mi scuso)\b[^.!?]{0,30}\bnon (?:posso|possiamo|è possibile)\b(?! (?:vedere|leggere))",
    "pt": rf"\bnão (?:posso|podemos|consigo|vou|poderei)(?: [\w']+){{0,2}}? {_PORTUGUESE}\b"
    r"|\b(?:desculpe|desculpa|sinto muito|lamento)\b[^.!?]{0,30}\bnão (?:posso|podemos|é possível)\b(?! (?:ver|ler))",
    "nl": rf"\bik (?:kan|mag|zal|wil) (?:[\w']+ ){{0,8}}(?:niet|geen)\b[^.!?]{{0,60}}?\b{_DUTCH}\b"
    rf"|\b(?:sorry|het spijt me|helaas)\b[^.!?]{{0,60}}\b(?:niet|geen)\b[^.!?]{{0,60}}?\b{_DUTCH}\b",
    "pl": rf"\bnie (?:mogę|będę|możemy|jestem w stanie)(?: [\w']+){{0,3}}? {_POLISH}\b",
    "ru": rf"\bне (?:могу|буду|стану|можем|в состоянии)(?: [\w']+){{0,3}}? {_RUSSIAN}\b"
    r"|\b(?:извините|простите|к сожалению)\b[^.!?]{0,20}\bя не (?:могу|буду)\b(?! (?:видеть|разглядеть|увидеть))",
    "tr": r"\b(?:yardımcı olamam|yardımcı olamıyorum|yardım edemem|bilgi veremem|bunu yapamam|cevap veremem"
    r"|cevaplayamam|yanıtlayamam|yerine getiremem|sağlayamam)\b",
    "zh": r"(?:无法|不能|不会|無法|不能夠|不會|不便|不可以|拒绝|拒絕)(?:为您|为你|為您|給您|给您|向您|对此|就此)?"
    r"(?:提供|协助|協助|帮助|幫助|回答|满足|滿足|完成|支持|参与|參與|生成|讨论|討論|回应|回應|执行|執行)",
    "ja": r"(?:お答え|お手伝い|お応え|ご案内|協力|提供|支援|対応|回答|サポート|お教え|説明|手助け)"
    r"(?:を)?(?:する)?(?:こと)?(?:は|が)?(?:でき(?:ません|ない|かねます)|いたしかねます|致しかねます|お断り)",
    "ko": r"(?:도와|도움|답변|제공|대답|알려|지원|응답|설명)[^.!?]{0,12}"
    r"(?:수 없(?:습니다|어요|음)|수는 없|않겠습니다|어렵습니다)",
    "ar": r"(?:لا (?:أستطيع|يمكنني|يمكنني أن|أقدر)|لن (?:أستطيع|أتمكن من)|غير قادر على) ?(?:أن )?"
    r"(?:المساعدة|مساعد|أساعد|تقديم|أقدم|الإجابة|أجيب|توفير|تلبية|القيام|إعطاء)",
    "hi": r"(?:मदद|सहायता|जानकारी|उत्तर|जवाब|प्रदान|अनुरोध)[^।!?]{0,30}(?:नहीं (?:कर|दे|करूँगा|करूंगा|दूँगा|दूंगा)|असमर्थ)",
}

# Any refusal in a language that ASCII can write has one of these.
NEEDED = (
    *("nicht", " kein", "no pu", "no pod", "no voy", "no me es", "no est", "no es pos", "je ne ", "impossible"),
    *("non poss", "non pot", "non sono", "non int", "non ", " niet", " geen", "nie m", "nie b", "nie j"),
    *("bilgi veremem", "bunu yapamam", "cevap veremem"),
)
PATTERN = re.compile("|".join(OPENINGS.values()))


def declines(opening: str) -> str:
    """The words of a lower-cased opening that decline in one of these languages, or the empty string."""
    if opening.isascii() and not any(word in opening for word in NEEDED):
        return ""
    found = PATTERN.search(opening)
    return found.group(0).strip() if found else ""
