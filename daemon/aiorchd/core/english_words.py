"""English words that decide whether two questions mean the same: what says nothing, what negates, counts, measures or asks, what
is the opposite of what, and what relates two things. `core.text_sketch` compares by them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

STOP_WORDS: Final = frozenset(
    (
        "a an the this that these those some any i me my mine we us our you your yours he him his she her it its they them "
        "their is am are was were be been being do does did doing have has had having can could will would shall should may "
        "might must of to in on at for from by with about as into onto and or but so if then than there here please kindly "
        "pls plz just really very also hey hi hello ok okay um uh well now want need like know tell let lets see get got give "
        "gimme show find explain say go going gonna wanna help thanks thank sure i'm i'd i'll i've it's that's there's let's "
        "you're what's who's where's how's when's whats hows what which who whom whose when where why how up out"
    ).split()
)
NEGATORS: Final = frozenset(
    (
        "no not none never nobody nothing nowhere neither nor cannot cant dont doesnt didnt isnt arent wasnt werent wont "
        "wouldnt shouldnt couldnt hasnt havent hadnt aint mustnt neednt without "
        "except excluding besides unless hardly barely lacks lacking "
        "fail fails refuse avoid instead"
    ).split()
)
QUESTION_WORDS: Final = frozenset("what which who whom whose when where why how".split())
WH_CONTRACTED: Final[Mapping[str, str]] = {
    word + suffix: word for word in QUESTION_WORDS for suffix in ("'s", "s", "'d", "'re", "'ll")
}
NUMBER_WORDS: Final[Mapping[str, str]] = {
    word: str(value)
    for value, words in enumerate(
        (
            "zero . two,twice,second,double three,third,thrice,triple four,fourth five,fifth six,sixth seven,seventh "
            "eight,eighth nine,ninth ten,tenth eleven,eleventh twelve,twelfth thirteen fourteen fifteen sixteen seventeen "
            "eighteen nineteen twenty"
        ).split()
    )
    for word in words.split(",")
    if word != "."
} | {
    "thirty": "30",
    "forty": "40",
    "fifty": "50",
    "sixty": "60",
    "seventy": "70",
    "eighty": "80",
    "ninety": "90",
    "hundred": "100",
    "thousand": "1000",
    "million": "1000000",
    "billion": "1000000000",
    "half": "0.5",
    "quarter": "0.25",
    "dozen": "12",
    "first": "1st",
    "once": "1x",
}
MEASURES: Final = frozenset(
    (
        "mm cm m km millimeter centimeter meter kilometer metre kilometre "
        "inch foot feet yard mile mg g kg gram kilogram ounce oz "
        "lb lbs pound ton tonne ml l liter litre gallon pint quart cup tablespoon teaspoon tbsp tsp celsius fahrenheit kelvin "
        "ms millisecond microsecond second minute hour day week weekday weekend month quarter year decade century am pm "
        "usd eur gbp jpy "
        "dollar euro yen peso rupee cent percent % ° $ € £ ¥ bit byte kb mb gb tb kib mib gib "
        "kilobyte megabyte gigabyte terabyte "
        "watt kilowatt volt amp hertz mhz ghz mph kph acre hectare monday tuesday wednesday thursday friday saturday sunday "
        "january february march april june july august september october november december spring summer autumn fall winter "
        "morning afternoon evening night noon midnight today tomorrow yesterday tonight daily weekly monthly yearly annual hourly"
    ).split()
)
SYMBOLS: Final = frozenset("%°$€£¥<>=+*/^~-")
OPPOSITES: Final = (
    "on off",
    "in,into,inside out,outside",
    "up,upward down,downward",
    "before,prior,earlier after,later,following",
    "above,over below,under,beneath",
    "more,most,greater,greatest less,least,fewer,fewest",
    "max,maximum,highest,largest,biggest,longest min,minimum,lowest,smallest,shortest",
    "high,higher low,lower",
    "big,bigger,large,larger small,smaller,little",
    "long,longer short,shorter",
    "fast,faster,fastest,quick slow,slower,slowest",
    "cheap,cheaper,cheapest,inexpensive expensive,pricey,costly",
    "best,better,good,great worst,worse,bad,poor",
    "hot,hotter,hottest,warm,warmer cold,colder,coldest,cool,cooler",
    "old,older,oldest new,newer,newest,young,younger",
    "first,earliest last,latest,final",
    "start,begin,resume stop,end,finish,halt,pause",
    "open,opening close,closing,shut",
    "enable,activate,allow,permit disable,deactivate,forbid,block,deny",
    "lock unlock",
    "install uninstall",
    "increase,raise,increasing decrease,lower,reduce,decreasing",
    "add,insert,include remove,delete,exclude,drop",
    "buy,purchase sell",
    "send,sent receive,received",
    "push pull",
    "import export",
    "upload download",
    "encrypt decrypt",
    "encode decode",
    "compress decompress,uncompress",
    "connect,attach disconnect,detach",
    "accept,approve reject,decline",
    "win,won lose,lost",
    "borrow,borrowed lend,lent",
    "deposit withdraw,withdrawal",
    "debit credit",
    "arrive,arrival,arriving depart,departure,leave,leaving",
    "male,man,men,boy,father,husband female,woman,women,girl,mother,wife",
    "left right",
    "north south",
    "east west",
    "true,correct,valid false,incorrect,invalid,wrong",
    "always never",
    "all,every,both none,neither",
    "safe,legal,possible,likely,happy,able unsafe,illegal,impossible,unlikely,unhappy,unable",
    "with without",
    "from,since to,until,till",
    "public private",
    "increase decrease",
    "gain,profit loss",
    "pass,succeed,success fail,failure",
    "hire,hired fire,fired",
    "mute unmute",
    "show hide",
    "many,multiple,plural single,singular",
    "synonym antonym",
    "ascending descending",
    "import,imports export,exports",
    "sunrise sunset",
    "input output",
    "read write",
    "encrypted unencrypted",
    "paid unpaid",
    "answer ask",
    "give take",
    "forward backward",
    "like,love dislike,hate",
)
RELATIONS: Final = frozenset("to from than over before after versus vs until till for by into onto".split())
DIRECTIONAL: Final = frozenset(
    "from to since until till in out into inside outside on off with without up over".split()
)
"""Opposites that are also the smallest of words; they count only where nothing else of the sentence differs."""
