"""How refusals are put in other languages than English: patterns made for this project.

Of each language, what a refusal says in so many words, and what any refusal has some of. An apology or "cannot" alone
also opens answers ("no puedo ver personas"), which is why the first needs the verb as well. Texts are lower-cased and
apostrophes straight before they are searched; what is quoted has been taken out.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import NamedTuple

VERSION = 2


class Signs(NamedTuple):
    """`declines`: leans to a refusal. `needed`: without it, there is none. `reports`: leans to an answer, as of what
    is not to be seen, of what somebody else cannot do, or of a slip."""

    declines: re.Pattern[str]
    needed: re.Pattern[str]
    reports: re.Pattern[str]


def _words(text: str) -> str:
    return "(?:" + "|".join(text.split()) + ")"


_GERMAN = _words("helfen beantworten geben bereitstellen unterstützen nachkommen erfüllen liefern teilen machen tun"
                 " weiterhelfen behilflich erstellen schreiben anbieten identifizieren beschreiben sagen erteilen"
                 " verraten sprechen weitergeben mitmachen dienen äußern antworten ausführen bearbeiten erklären")  # fmt: skip
_SPANISH = _words("ayudar proporcionar responder cumplir ofrecer dar darte compartir hacer asistir participar generar"
                  " crear atender ayudarte ayudarle brindar identificar apoyar describir hablar escribir decir decirte"
                  " hacerlo responderte contestar continuar comentar realizar")  # fmt: skip
_FRENCH = _words("aider fournir répondre donner partager faire accéder participer générer créer assister proposer"
                 " identifier soutenir décrire parler écrire dire continuer commenter traiter satisfaire")  # fmt: skip
_ITALIAN = _words("aiutare aiutarti aiutarla fornire rispondere dare condividere fare assistere partecipare generare"
                  " creare soddisfare identificare descrivere parlare scrivere dire farlo dirlo continuare risponderti"
                  " commentare eseguire")  # fmt: skip
_PORTUGUESE = _words("ajudar fornecer responder dar compartilhar partilhar fazer ajudá-lo ajudá-la atender participar"
                     " gerar criar oferecer auxiliar identificar descrever falar escrever dizer continuar fazê-lo"
                     " comentar cumprir te")  # fmt: skip
_DUTCH = _words("helpen geven beantwoorden bieden delen doen voldoen ondersteunen maken verstrekken identificeren"
                " beschrijven schrijven zeggen antwoorden praten uitvoeren meewerken")  # fmt: skip
_POLISH = _words("pomóc udzielić odpowiedzieć spełnić podać zrobić dostarczyć wygenerować opisać zidentyfikować"
                 " stworzyć udzielać napisać pomagać odpowiadać rozmawiać wykonać")  # fmt: skip
_RUSSIAN = _words("помочь помогать ответить отвечать предоставить выполнить дать давать сделать поделиться создать"
                  " обсуждать опознать описать написать говорить сказать комментировать делать участвовать")  # fmt: skip
_GERMAN_ASKED = r"(?:anfrage|anweisung|aufforderung|bitte|frage|aufgabe|eingabe|wunsch)"
_SEEING = r"(?:sehen|erkennen|lesen|finden|ausmachen|entziffern|sicher sagen|genau sagen)"

_DECLINES: Mapping[str, str] = {
    "de": r"\bich (?:kann|darf|werde|möchte|will|sollte) "
    rf"(?:[\w'-]+,? ){{0,8}}(?:nicht|keine?[nmrs]?|nichts)\b(?![^.!?]{{0,40}}\b{_SEEING}\b)"
    rf"[^.!?]{{0,60}}?\b{_GERMAN}\b"
    r"|\b(?:dabei|damit|das|leider|hierbei|dazu|darüber|darauf|daran|hier|hierzu|dem|so etwas|diese\w* \w+)"
    r" (?:kann|darf|werde|möchte|will) (?:ich|wir) (?:[\w']+ ){0,6}(?:nicht|keine?[nmrs]?|nichts)\b"
    rf"(?![^.!?]{{0,40}}\b{_SEEING}\b)"
    r"|\b(?:leid|entschuldigung|entschuldige|entschuldigen sie|verzeihung|bedauere?|bedaure|leider|sorry)[,.!]?"
    r" (?:aber |doch )?[^.!?:]{0,60}?\b(?:geht|kann|darf|werde|ist|mache|tue|möchte|will)\b[^.!?:]{0,50}?"
    rf"\b(?:nicht|kein\w*|unmöglich)\b(?![^.!?]{{0,40}}\b{_SEEING}\b)"
    rf"|\b(?:die|diese|ihre|deine|ihrer|dieser|deiner) {_GERMAN_ASKED}\b[^.!?]{{0,60}}?"
    r"\b(?:abgelehnt|verweigert|zurückgewiesen|unzulässig|unangemessen|unangebracht"
    r"|nicht (?:bearbeitet|erfüllt|beantwortet|ausgeführt|nachkommen|nachgekommen)|verstößt)\b"
    rf"|^{_GERMAN_ASKED} (?:abgelehnt|verweigert)"
    r"|\bich (?:lehne|weigere|verweigere|muss [^.!?]{0,40}\b(?:ablehnen|verweigern))\b"
    r"|\bist mir nicht (?:erlaubt|gestattet|möglich)\b|\b(?:bei|zu|über|für) [^.!?]{1,40}\b(?:kann|darf|werde|möchte) ich"
    r" (?:\w+ ){0,3}(?:nicht|keine?\w*)\b|\b(?:die|eine) (?:antwort|auskunft|hilfe) (?:wird|muss ich) verweiger\w+"
    r"|\bich bin nicht (?:befugt|berechtigt|in der lage|bereit|dafür)\b|\bsehe mich nicht in der lage\b"
    r"|\b(?:verstößt|widerspricht)\b[^.!?]{0,30}\b(?:richtlinien|regeln|grundsätze\w*|nutzungsbedingungen)\b"
    r"|\b(?:das|dabei|dazu|darüber|das) (?:mache|tue|beantworte|helfe|sage|spreche) ich (?:\w+ )?(?:nicht|nichts)\b"
    r"|\bder assistent (?:kann|darf|wird)\b[^.!?]{0,40}\bnicht\b",
    "es": rf"\bno (?:puedo|podemos|podré|podría|voy a|vamos a|debo|quiero|me es posible|es posible|(?:estoy|está) autorizad[oa]"
    rf" (?:a|para)|me está permitido|estoy en condiciones de|soy capaz de|puede|debe)(?: [\w']+){{0,2}}? {_SPANISH}\b"
    r"|\b(?:lo siento|lo lamento|perdón|disculpa|disculpe|lamentablemente|me temo)\b[^.!?]{0,30}"
    r"\bno (?:lo |la |me |te |le )?(?:puedo|podemos|es posible|será posible|voy a|está permitido|hago|haré)\b"
    r"(?! (?:ver|distinguir|leer|encontrar))"
    r"|\b(?:solicitud|petición|instrucción|pregunta|orden)\b[^.!?]{0,40}\b(?:rechazad[oa]|denegad[oa]|inapropiad[oa]"
    r"|infringe|viola|no (?:puede|se puede))\b"
    r"|\b(?:me niego|rechazo|debo (?:negarme|rechazar|declinar)|tengo que (?:rechazar|negarme)|prefiero no|me abstengo)\b"
    r"|\bno (?:lo haré|responderé|hablaré|ayudaré|es apropiado)\b|\beso no lo hago\b|\bno (?:me|nos) (?:es|está) (?:posible|permitido)\b|\bno (?:es|sería) (?:apropiado|adecuado|ético)\b"
    r"|\b(?:va en contra de|infringe|viola)\b[^.!?]{0,20}\b(?:políticas?|normas|directrices|reglas)\b",
    "fr": r"\bje ne (?:peux|puis|veux|vais|pourrai|saurais|dois|souhaite)(?: pas)?(?: malheureusement)?(?: [\w']+){0,2}?"
    rf" {_FRENCH}\b"
    rf"|\bje ne suis pas (?:en mesure|autorisée?|capable|habilitée?) (?:de |d'|à )(?:[\w']+ ){{0,2}}?{_FRENCH}\b"
    r"|\b(?:désolée?|navrée?|je regrette|malheureusement|excusez-moi)\b[^.!?]{0,40}"
    r"\b(?:je ne (?:peux|puis|suis|vais)|c'est impossible|ce n'est pas (?:possible|permis|quelque chose)|cela n'est pas)\b"
    r"(?! (?:pas )?(?:voir|lire|distinguer))"
    r"|\b(?:demande|requête|instruction|question|consigne)\b[^.!?]{0,40}\b(?:rejetée|refusée|déclinée|inappropriée"
    r"|enfreint|viole|ne peut)\b"
    r"|\bje (?:refuse|dois (?:refuser|décliner)|décline|préfère ne pas|m'abstiens|m'y refuse)\b"
    r"|\bil m'est impossible\b|\bje n'en parle(?:rai)? pas\b|\bje ne (?:le ferai|répondrai|vous aiderai|t'aiderai) pas\b"
    r"|\bl'assistant ne peut\b|\bil ne m'est pas (?:permis|possible)\b|\bje ne suis pas (?:autorisée?|habilitée?)\b"
    r"|\b(?:à l'encontre de|enfreint|contraire à|viole)\b[^.!?]{0,20}\b(?:règles|politique|directives|principes)\b",
    "it": r"\bnon (?:posso|possiamo|potrò|voglio|devo|sono in grado di|sono autorizzat[oa] a|intendo|me la sento di"
    rf"|mi è (?:permesso|possibile|consentito)|può)(?: [\w']+){{0,2}}? {_ITALIAN}\b"
    r"|\b(?:mi dispiace|spiacente|mi scuso|purtroppo|scusa|scusami)\b[^.!?]{0,30}"
    r"\bnon (?:lo )?(?:posso|possiamo|è possibile|è consentito|è qualcosa|sono in grado)\b(?! (?:vedere|leggere))"
    r"|\b(?:richiesta|istruzione|domanda)\b[^.!?]{0,40}\b(?:respinta|rifiutata|negata|inappropriata|viola|non può)\b"
    r"|\b(?:mi rifiuto|rifiuto di|devo (?:rifiutare|rifiutarmi|declinare)|preferisco non|mi astengo)\b"
    r"|\bnon (?:lo farò|risponderò|ne parlo|ti aiuterò)\b|\bdi questo non parlo\b|\bnon mi è (?:permesso|possibile|consentito)\b|\bnon (?:è|sarebbe) appropriato\b"
    r"|\b(?:va contro|viola|contrari[oa] a\w*)\b[^.!?]{0,20}\b(?:linee guida|regole|politica|norme)\b",
    "pt": r"\bnão (?:posso|podemos|consigo|vou|poderei|devo|quero|me é permitido|estou autorizad[oa] a"
    rf"|sou capaz de|pode)(?: [\w']+){{0,2}}? {_PORTUGUESE}\b"
    r"|\b(?:desculpe|desculpa|desculpas|sinto muito|lamento|infelizmente)\b[^.!?]{0,30}"
    r"\bnão (?:posso|podemos|é possível|é permitido|é algo|consigo)\b(?! (?:ver|ler|identificar nenhum))"
    r"|\b(?:pedido|solicitação|instrução|pergunta)\b[^.!?]{0,40}\b(?:rejeitad[oa]|recusad[oa]|negad[oa]|inapropriad[oa]"
    r"|viola|não pode)\b"
    r"|\b(?:recuso-me|me recuso|devo recusar|tenho que recusar|prefiro não|abstenho-me)\b"
    r"|\bnão (?:farei|responderei|falo sobre|vou falar|ajudarei|me é (?:permitido|possível)|tenho permissão)\b|\bnão (?:é|seria) (?:apropriado|adequado)\b"
    r"|\b(?:vai contra|viola)\b[^.!?]{0,20}\b(?:diretrizes|regras|política|normas)\b",
    "nl": rf"\bik (?:kan|mag|zal|wil|ga) (?:[\w']+ ){{0,8}}(?:niet|geen|niets)\b(?!\s+\w+ (?:zien|lezen))[^.!?]{{0,60}}?\b{_DUTCH}\b"
    r"|\b(?:sorry|het spijt me|helaas|excuses)\b[^.!?:]{0,60}\b(?:niet|geen|onmogelijk)\b[^.!?]{0,60}?"
    rf"\b(?:{_DUTCH}|mogelijk|toegestaan|kan|gaat|mag)\b"
    r"|\b(?:sorry|het spijt me|helaas),? (?:maar )?dat (?:kan|gaat|mag|doe|is)\b[^.!?]{0,30}\bniet\b"
    rf"|\b(?:daar|hier|dat|dit) (?:kan|mag|wil|zal) ik (?:[\w']+ ){{0,4}}niet\b[^.!?]{{0,30}}\b{_DUTCH}\b"
    r"|\b(?:verzoek|opdracht|vraag|instructie)\b[^.!?]{0,40}\b(?:afgewezen|geweigerd|ongepast|schendt|kan niet)\b"
    r"|\bik (?:weiger|moet (?:[\w']+ ){0,3}weigeren|wijs (?:[\w']+ ){0,3}af|ben niet (?:bevoegd|in staat|bereit|bereid))\b"
    r"|\b(?:dat|daar|hier) (?:doe|praat|help|antwoord) ik (?:[\w']+ )?(?:niet|over)\b|\bgeef (?:hier|daar) geen antwoord\b"
    r"|\bis (?:mij|me) niet toegestaan\b|\bin strijd met\b[^.!?]{0,20}\b(?:richtlijnen|regels|beleid)\b",
    "pl": r"\bnie (?:mogę|będę|możemy|może|zamierzam|chcę|powinienem|wolno mi|mam prawa|jestem w stanie)"
    rf"(?: [\w']+){{0,3}}? {_POLISH}\b"
    r"|\b(?:przykro mi|przepraszam|niestety)\b[^.!?]{0,30}\b(?:niemożliwe|nie jest możliwe|niedozwolone|nie mogę)\b"
    r"(?! (?:zobaczyć|dostrzec|odczytać))"
    r"|\bnie wolno mi\b|\b(?:odmawiam|muszę odmówić|wolę nie|nie (?:zrobię tego|pomogę|odpowiem|rozmawiam))\b"
    r"|\b(?:prośba|żądanie|polecenie|zapytanie)\b[^.!?]{0,40}\b(?:odrzucon[aey]|narusza|nieodpowiedni[ae]|nie może)\b"
    r"|\bnarusza\b[^.!?]{0,20}\b(?:zasady|wytyczne|regulamin)\b",
    "ru": r"\bне (?:могу|буду|стану|можем|может|вправе|имею права|должен|готов|в состоянии|хочу)"
    rf"(?: [\w']+){{0,3}}? {_RUSSIAN}\b"
    r"|\b(?:извините|простите|к сожалению|сожалею|мне жаль|прошу прощения)\b[^.!?]{0,30}"
    r"\b(?:я не (?:могу|буду)|невозможно|недопустимо|запрещено|не разрешено)\b(?! (?:видеть|разглядеть|увидеть))"
    r"|\b(?:отказываюсь|вынужден[аы]? отказать\w*|должен отказать\w*|предпочитаю не|воздержусь)\b"
    r"|\b(?:запрос|просьба|просьбу|инструкция)\b[^.!?]{0,40}\b(?:откло[нё]\w+|отказано|нарушает|неуместен|не может)\b"
    r"|\bмне (?:запрещено|не разрешено|нельзя)\b|\bне имею права\b"
    r"|^отказано\b|\b(?:об этом|с этим|в этом)[^.!?]{0,20}\bне (?:говорю|стану|помощник|буду)\b"
    r"|\bнарушает\b[^.!?]{0,20}\b(?:правила|политику|инструкции)\b",
    "tr": r"\b(?:yardımcı ol[au]mam|yardımcı olamıyorum|yardımcı olamaz\w*|yardım edemem|yardım edemiyorum|bilgi veremem"
    r"|bunu yapamam|cevap veremem|cevap vermem|cevaplayamam|cevaplayamaz|yanıtlayamam|yanıt veremem|getiremem|getiremiyorum"
    r"|sağlayamam|veremem|oluşturamam|tanımlayamam|açıklayamam|yazamam|bunu yapmam|yapmayacağım|cevaplamayacağım|konuşmam"
    r"|paylaşamam|üretemem|getirilemez|reddediyorum|reddetmek zorundayım)\b"
    r"|\b(?:istek|isteğiniz|talep|talebiniz|talimat)\b[^.!?]{0,30}\b(?:reddedil\w+|reddedildi|alınamaz|aykırı\w*|uygunsuz)\b"
    r"|\b(?:üzgünüm|özür dilerim|maalesef|ne yazık ki)\b[^.!?]{0,30}\b(?:mümkün değil|yasak|uygun değil)\b",
    "zh": r"(?:无法|不能|不会|無法|不能夠|不會|不便|不方便|不可以|不应|不應|不愿|不願|拒绝|拒絕|难以|難以)(?:够|該|该|意)?"
    r"(?:为您|为你|為您|給您|给您|给你|向您|对此|就此|帮您|帮你|在这方面)?"
    r"(?:提供|协助|協助|帮助|幫助|帮忙|幫忙|回答|满足|滿足|完成|支持|参与|參與|生成|讨论|討論|回应|回應|执行|執行|识别|識別|描述"
    r"|撰写|撰寫|这样做|這樣做|这么做|给出|給出|处理|處理|说|分享|创作|评论)"
    r"|(?:请求|請求|指令|要求|问题|提问)(?:已)?(?:被|遭到?)(?:拒绝|拒絕|驳回|屏蔽)|(?:拒绝|拒絕)(?:回答|该|此|这|執行|执行)"
    r"|我(?:必须|必須)?拒绝|恕(?:我|难|難)|无可奉告|帮不(?:了|上)|做不到|(?:抱歉|对不起|對不起)[,,。 但]*(?:这|這)?不行"
    r"|违反[^。!?]{0,12}(?:政策|规定|规则|准则)|違反[^。!?]{0,12}(?:政策|規定|規則|準則)|这是不(?:允许|合适)的",
    "ja": r"(?:お答え|お手伝い|お応え|ご案内|協力|提供|支援|対応|回答|サポート|お教え|説明|手助け|お力に|特定|作成|応じる|書く)"
    r"(?:を)?(?:する|なる)?(?:こと)?(?:は|が|も)?(?:でき(?:ません|ない|かねます)|なれません|いたしかねます|致しかねます|しかねます"
    r"|お断り|しません|いたしません)"
    r"|お断り(?:いたします|します|させて)|(?:回答|返答|発言)(?:を|は)(?:拒否|差し控え|控え)|控えさせて|ご遠慮させて|それには答えません"
    r"|(?:リクエスト|依頼|要望|指示|要求|質問)(?:は|が|には)[^。]{0,12}(?:拒否|却下|違反|処理できません|受け付けられません|不適切|応じられません)"
    r"|(?:それは|これは)(?:できません|いたしません|無理です)|(?:申し訳|すみません|ごめんなさい|残念ながら)[^。]{0,30}できません"
    r"|(?:規約|ガイドライン|ポリシー)に(?:違反|反)|ノーコメント|話せません|認められていません|許可されていません",
    "ko": r"(?:도와|도움|답변|제공|대답|알려|지원|응답|설명|식별|작성|수행|처리|만들|조언|말씀)[^.!?]{0,14}"
    r"(?:수 없(?:습니다|어요|음|다)|수는 없|않겠습니다|않습니다|어렵습니다|못합니다|곤란)"
    r"|(?:거절|거부)(?:하겠|합니다|할게|하기로)|(?:요청|지시|질문)[^.!?]{0,8}(?:거부|거절|위배|부적절|처리할 수 없)"
    r"|(?:죄송|미안|유감|안타깝)[^.!?]{0,30}(?:수 없|불가능|어렵|곤란|안 됩니다)"
    r"|하지 않겠습니다|(?:정책|가이드라인|규정)에 (?:위배|위반|어긋)",
    "ar": r"(?:لا (?:أستطيع|يمكنني|يمكنني أن|أقدر|يجوز لي|يستطيع|يمكنه|يمكننا)|لن (?:أستطيع|أتمكن من|أقوم)|غير قادر على"
    r"|لست قادر\w* على|أقدر على) ?(?:أن |على )?"
    r"(?:المساعدة|مساعد|أساعد|تقديم|أقدم|الإجابة|أجيب|توفير|تلبية|القيام|إعطاء|تحديد|وصف|إنشاء|كتابة|الرد|مشاركة|فعل)"
    r"|(?:^|[ .،])(?:أرفض|أمتنع عن|أفضل عدم|يجب أن أرفض)|(?:تم رفض|رُفض) (?:ال)?طلب|(?:الطلب|طلبك) (?:مرفوض|غير مقبول|لا يمكن)"
    r"|لن (?:أفعل|أجيب|أتحدث|أساعد)|(?:عذر|آسف|للأسف|أعتذر)[^.!؟]{0,25}(?:غير ممكن|غير مسموح|مستحيل|لا (?:أستطيع|يمكنني))(?! رؤية)"
    r"|يخالف (?:سياس|إرشاد|القواعد)",
    "hi": r"(?:मदद|सहायता|जानकारी|उत्तर|जवाब|प्रदान|अनुरोध|पहचान|वर्णन|तैयार|पूरा|बात|ऐसा)[^।!?]{0,30}"
    r"(?:नहीं (?:कर|दे|की|किया|करूँगा|करूंगा|करूंगी|दूँगा|दूंगा)|असमर्थ|इनकार|मना कर|अधिकृत नहीं)"
    r"|अनुरोध[^।!?]{0,25}(?:अस्वीक|उल्लंघन|अनुचित|नहीं किया)|(?:क्षमा|माफ|माफ़|खेद|दुर्भाग्य)[^।!?]{0,25}"
    r"(?:संभव नहीं|मुमकिन नहीं|अनुमति नहीं|नहीं कर सक)|(?:से|मैं) (?:इनकार|मना) कर|नीति का उल्लंघन",
}

_NEEDED: Mapping[str, str] = {
    "de": "leid|entschuld|verzeih|bedau|leider|lehn|weiger|unmöglich|unangemessen|unangebracht|unzulässig|richtlinie|verst[oö]ß"
    r"|regeln|befugt|\b(?:ich|wir|das|dabei|damit|dazu|es)\b[^.!?]*\b(?:nicht|kein\w*|nichts)\b|\bnein\b|nicht möglich|lieber"
    "|anderes thema|stattdessen|wenden sie sich|fragen sie",
    "es": r"siento|lament|perd[oó]n|disculp|temo|rechaz|nieg|negar|imposible|inapropiad|pol[ií]tica|norma|directric|prefier"
    r"|\bno (?:lo |la |me |te |le |se )?(?:pued|pod|voy|vamos|debo|quiero|est[oáa]|es|soy|har|respond|habl|ayud)\w*|abstengo"
    r"|en su lugar|otro tema|consult",
    "fr": r"désolé|navré|regret|malheureus|excus|refus|rejet|déclin|impossible|appropri|politique|règles|directives|préfère"
    r"|\bje n['e ]|\bce n'est pas|\bne peut|abstien|plutôt|autre sujet|consult|enfreint",
    "it": r"dispiace|spiacent|scus|purtroppo|rifiut|respint|negat|impossibil|appropriat|linee guida|politica|regole|preferisco"
    r"|\bnon (?:lo |mi |ti |è |ne |me )?(?:poss|potr|vogli|devo|sono|intend|può|permess|consentit|farò|risponder|parlo)\w*"
    r"|astengo|piuttosto|invece|rivolg|viola",
    "pt": r"desculp|sinto muito|lament|infelizmente|recus|rejeit|negad|impossível|inapropriad|diretriz|política|regras|prefiro"
    r"|\bnão (?:me |o |a )?(?:posso|pod|consigo|vou|devo|quero|é|estou|sou|far|respond|fal|ajud)\w*|abstenho|procure|viola",
    "nl": r"sorry|spijt|helaas|excus|weiger|afgewezen|onmogelijk|ongepast|richtlijn|beleid|regels|liever"
    r"|\b(?:ik|wij|we|dat|daar|hier)\b[^.!?]*\b(?:niet|geen|niets)\b|strijd met|schendt|\bkan niet|\bnee\b|contact op",
    "pl": r"przykro|przeprasz|niestety|wybacz|odmaw|odmów|odrzuc|niemożliw|nieodpowiedni|niedozwol|zasad|regulamin|wytyczn|wolę"
    r"|\bnie (?:mog|będ|moż|zamierz|chc|powin|woln|mam|jest|zrob|pomog|odpow|rozm|da)\w*|wstrzym",
    "ru": r"извин|прост|сожал|жаль|прощен|отказ|откло|невозможн|недопуст|запрещ|неумест|правил|предпочита|воздерж|нарушает"
    r"|\bне (?:мог|буд|стан|мож|вправе|име|долж|готов|в сост|хоч|говор|разреш|скажу|помо)\w*|лучше|обратит",
    "tr": r"üzgün|özür|maalesef|yazık|kusura|redd|mümkün değil|uygun değil|uygunsuz|kural|politika|yasak|aykırı|tercih|imkâns"
    r"|\w+[ae]m(?:am|em|ıyorum|iyorum|az|ez)\b|\w+(?:mam|mem|mayacağım|meyeceğim|amaz|emez|eyemem|ayamam|eremem)\b",
    "zh": "无法|無法|不方便|不能|不会|不會|不便|不可|不行|不应|不應|不愿|不願|不合适|不合適|不适|拒|抱歉|对不起|對不起|不好意思|遗憾|遺憾|违反"
    "|違反|恕|帮不|做不到|无可奉告|不允许|不允許|难以|還是|换个|咨询|諮詢|不该|不該|不想|不说",
    "ja": "ません|できない|しない|かね|断り|拒否|却下|控え|遠慮|申し訳|すみません|ごめん|恐れ入り|残念|無理|不適切|違反|ノーコメント|ご相談"
    "|いたしかね|やめて",
    "ko": "없|않|못|불가|어렵|곤란|거부|거절|죄송|미안|유감|안타깝|부적절|위배|위반|정책|안 됩|안 돼|노코멘트|문의하세요",
    "ar": "لا |لن |ليس|لست|غير |عذر|آسف|أعتذر|اعتذر|للأسف|المعذرة|رفض|مرفوض|أمتنع|مستحيل|يخالف|سياس|أفضل عدم|استشار",
    "hi": "नहीं|असमर्थ|क्षमा|माफ|माफ़|खेद|दुर्भाग्य|इनकार|इंकार|मना|अस्वीक|अनुचित|नीति|उल्लंघन|संपर्क करें",
}

_REPORTS: Mapping[str, str] = {
    "de": rf"\b(?:ich|man) kann [^.!?]{{0,60}}\b(?:nicht|keine?\w*)\b[^.!?]{{0,30}}\b{_SEEING}\b"
    r"|^(?:der|die|das|ein|eine|er|sie|es|man) (?!anfrage|anweisung|bitte|frage|assistent|modell|antwort|ki\b|bild|foto|inhalt|text)\w+"
    r"|\bleid zu hören\b|\bfür die (?:verspätung|wartezeit)\b|\bhabe mich geirrt\b|\baber (?:so geht|hier ist)\b",
    "es": r"\bno (?:puedo|se puede|logro) (?:ver|distinguir|leer|encontrar)\b|\b(?:siento|perdón|disculpa) por\b|\bme equivoqué\b"
    r"|^(?:el|la|los|las|un|una) (?!solicitud|petición|instrucción|pregunta|asistente|modelo|imagen|foto|contenido|texto)\w+|\bpero (?:se hace|aquí)\b"
    r"|\bpor (?:la demora|tu pérdida|el error)\b",
    "fr": r"\bje ne (?:peux|vois|distingue)(?: pas)? (?:voir|de |lire|distinguer)|\bpour le retard\b|\bme suis trompé"
    r"|^(?:le|la|les|un|une) (?!demande|requête|instruction|question|modèle|image|photo|contenu|texte)\w+|\bmais voici\b",
    "it": r"\bnon (?:posso|riesco a|si) (?:vedere|leggere|vedono|distinguere)|\bper il ritardo\b|\bmi sono sbagliat"
    r"|^(?:il|lo|la|i|gli|le|un|una) (?!richiesta|istruzione|domanda|modello|immagine|foto|contenuto|testo)\w+|\bma (?:si fa|ecco)\b",
    "pt": r"\bnão (?:posso|consigo|se pode) (?:ver|ler|distinguir)|\bpela demora\b|\ba demora\b|\bme enganei\b"
    r"|^(?:o|a|os|as|um|uma) (?!pedido|solicitação|instrução|pergunta|assistente|modelo|imagem|foto|conteúdo|texto)\w+|\bmas (?:é assim|aqui)\b",
    "nl": r"\b(?:ik|men) kan [^.!?]{0,60}\b(?:niet|geen)\b[^.!?]{0,30}\b(?:zien|lezen|vinden)\b|\bvoor het wachten\b"
    r"|^(?:de|het|een|hij|zij|ze) (?!verzoek|vraag|opdracht|instructie|assistent|model|spijt|afbeelding|foto|inhoud|is\b)\w+|\bhad het mis\b",
    "pl": r"\bnie (?:mogę|można|potrafię) (?:zobaczyć|dostrzec|odczytać)|\bnie widzę\b|\bpomyliłem\b|\bza zwłokę\b"
    r"|^(?!asystent|model|prośb|żądani|poleceni|zapytani)\w+ nie (?:może|mogą|umie)\b",
    "ru": r"\bне (?:могу|вижу|удаётся) ?(?:видеть|разглядеть|увидеть|прочитать)?\b(?<=вижу|деть|тать)|\bза задержку\b|\bя ошиб"
    r"|^(?!ассистент|модель|помощник|запрос|просьб)\w+ не (?:может|могут|умеет)\b",
    "tr": r"\bgör(?:emiyorum|ünmüyor)\b|\bgecikme\b|\byanılmışım\b|^(?!asistan|istek|talep|model)\w+ \w+[ae]m[ae]z\b",
    "zh": r"(?:看不|(?:无法|不能|没有)看)(?:到|见|清)|久等|弄错|^(?:这|那|该|這)(?:只|个|位|名|条|张|辆|座|栋|隻|個)"
    r"(?!请求|問題|问题|指令|要求|请|圖|图)",
    "ja": r"見え(?:ません|ない)|お待たせ|間違え|^(?:この|その|あの)(?!リクエスト|依頼|ご|要望|質問|指示|情報|画像)\w{1,4}は",
    "ko": r"볼 수 없|보이지 않|늦어서|착각|^(?:이|그|저) (?!요청|질문|지시|이미지|정보|사람을|내용)\S+[은는이가] ",
    "ar": r"لا (?:أرى|أستطيع رؤية|يمكنني رؤية)|على التأخير|لقد أخطأت|^(?!المساعد|النموذج|الطلب|هذا)\w+ لا (?:يستطيع|تستطيع|يمكنه)",
    "hi": r"(?:दिख|दिखता|देख)[^।]{0,12}नहीं|नहीं (?:दिख|देख)|देरी के लिए|गलती हुई|^(?!सहायक|अनुरोध|मैं|यह|आपका)\S+ \S+ नहीं सक",
}

SIGNS: Mapping[str, Signs] = {
    code: Signs(re.compile(_DECLINES[code]), re.compile(_NEEDED[code]), re.compile(_REPORTS[code]))
    for code in _DECLINES
}
