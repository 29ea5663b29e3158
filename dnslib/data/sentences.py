"""Sentences of our own making for the synthesiser: small word lists and one template per language.

A language has who x does x what x where sentences; each sentence belongs to one split by a hash of its words, so a
sentence heard in training is never heard in a test clip.
"""

from hashlib import sha256

import numpy as np

WORDS: dict[str, tuple[str, str, str, str]] = {  # who | does | what | where and when; phrases parted by "/"
    "en": (
        "The old gardener/My neighbour/A careful driver/The young doctor/Our teacher/Nobody here/Every child/"
        "The woman upstairs/His brother/A tired sailor/The baker's daughter/Their engineer",
        "carries/repairs/forgets/measures/paints/never finds/hides/remembers/sells/slowly opens/describes/brings back",
        "the heavy basket/seven blue chairs/a broken clock/the letters from the city/two jars of honey/"
        "that strange machine/the yellow umbrella/a map of the valley/fresh bread and cheese/the garden gate/"
        "a question about money/the quiet piano",
        "across the bridge/before breakfast/near the harbour/when it rains/after the long meeting/on Thursday morning/"
        "without any help/behind the school/for the third time/in the middle of winter/as usual/under the tall trees",
    ),
    "de": (
        "Der alte Gärtner/Meine Nachbarin/Ein junger Arzt/Unsere Lehrerin/Das Kind von nebenan/Der müde Fahrer/"
        "Ihre Schwester/Niemand im Dorf",
        "trägt/findet/vergisst/verkauft/zeichnet/öffnet/versteckt/beschreibt",
        "den schweren Korb/sieben blaue Stühle/die kaputte Uhr/das gelbe Fahrrad/zwei Gläser Honig/einen langen Brief/"
        "die Karte vom Tal/das leise Klavier",
        "über die Brücke/vor dem Frühstück/am Hafen/wenn es regnet/nach der Sitzung/am Donnerstag/ohne Hilfe/"
        "hinter der Schule",
    ),
    "fr": (
        "Le vieux jardinier/Ma voisine/Un jeune médecin/Notre professeur/La fille du boulanger/Le marin fatigué/"
        "Son frère/Personne ici",
        "apporte/retrouve/oublie/dessine/répare/cache/vend/ouvre",
        "le panier trop lourd/sept chaises bleues/une horloge cassée/le parapluie jaune/deux pots de miel/"
        "la carte de la vallée/du pain et du fromage/une longue lettre",
        "près du port/avant midi/quand il pleut/après la réunion/jeudi matin/sans aide/derrière l'école/"
        "au milieu de l'hiver",
    ),
    "es": (
        "El viejo jardinero/Mi vecina/Un médico joven/Nuestra maestra/La hija del panadero/El marinero cansado/"
        "Su hermano/Nadie aquí",
        "lleva/encuentra/olvida/dibuja/repara/esconde/vende/abre",
        "la cesta pesada/siete sillas azules/un reloj roto/el paraguas amarillo/dos frascos de miel/"
        "el mapa del valle/pan y queso/una carta muy larga",
        "cerca del puerto/antes del desayuno/cuando llueve/después de la reunión/el jueves/sin ayuda/"
        "detrás de la escuela/en pleno invierno",
    ),
    "it": (
        "Il vecchio giardiniere/La mia vicina/Un giovane medico/La nostra maestra/Il marinaio stanco/Suo fratello/"
        "Ogni bambino/La signora del piano di sopra",
        "porta/ritrova/dimentica/disegna/ripara/nasconde/vende/apre",
        "il cesto pesante/sette sedie azzurre/un orologio rotto/l'ombrello giallo/due vasi di miele/"
        "la mappa della valle/pane e formaggio/una lunga lettera",
        "vicino al porto/prima di colazione/quando piove/dopo la riunione/giovedì mattina/senza aiuto/"
        "dietro la scuola/in pieno inverno",
    ),
    "pl": (
        "Stary ogrodnik/Moja sąsiadka/Młody lekarz/Nasza nauczycielka/Córka piekarza/Zmęczony kierowca/"
        "Jego brat/Każde dziecko",
        "niesie/znajduje/maluje/naprawia/chowa/sprzedaje/otwiera/opisuje",
        "ciężki kosz/siedem niebieskich krzeseł/stary zegar/żółty parasol/dwa słoiki miodu/mapę doliny/"
        "chleb i ser/długi list",
        "koło portu/przed śniadaniem/kiedy pada deszcz/po zebraniu/w czwartek rano/bez pomocy/za szkołą/"
        "w środku zimy",
    ),
    "sv": (
        "Den gamla trädgårdsmästaren/Min granne/En ung läkare/Vår lärare/Bagarens dotter/Den trötta sjömannen/"
        "Hennes bror/Varje barn",
        "bär/hittar/glömmer/ritar/lagar/gömmer/säljer/öppnar",
        "den tunga korgen/sju blå stolar/en trasig klocka/det gula paraplyet/två burkar honung/"
        "kartan över dalen/bröd och ost/ett långt brev",
        "nära hamnen/före frukost/när det regnar/efter mötet/på torsdag morgon/utan hjälp/bakom skolan/"
        "mitt i vintern",
    ),
    "fi": (
        "Vanha puutarhuri/Minun naapurini/Nuori lääkäri/Meidän opettajamme/Leipurin tytär/Väsynyt merimies/"
        "Hänen veljensä/Jokainen lapsi",
        "kantaa/löytää/unohtaa/piirtää/korjaa/piilottaa/myy/avaa",
        "painavan korin/seitsemän sinistä tuolia/rikkinäisen kellon/keltaisen sateenvarjon/kaksi purkkia hunajaa/"
        "laakson kartan/leipää ja juustoa/pitkän kirjeen",
        "sataman lähellä/ennen aamiaista/kun sataa/kokouksen jälkeen/torstaina/ilman apua/koulun takana/"
        "keskellä talvea",
    ),
}  # fmt: skip
LANGUAGES = tuple(WORDS)


def sentence(language: str, rng: np.random.Generator) -> str:
    """One random sentence of a language of `LANGUAGES`."""
    return " ".join(str(rng.choice(part.split("/"))) for part in WORDS[language]) + "."


def split_of(text: str) -> str:
    """The one split that may hear a sentence: 1 of 8 validation, 2 of 8 test, else train."""
    return ("validation", "test", "test", *["train"] * 5)[sha256(text.encode()).digest()[0] % 8]


def sentence_for(split: str, language: str, rng: np.random.Generator) -> str:
    """One random sentence that belongs to ``split``."""
    while True:
        text = sentence(language, rng)
        if split_of(text) == split:
            return text
