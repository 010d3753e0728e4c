"""What can be told and asked: kinds of things, and what is known about each."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass

from minillm.training.data import values

KINDS: dict[str, tuple[str, ...]] = {
    "place": (
        "the {n} library", "the public pool in {n}", "the {n} bakery", "the sports hall in {n}", "the café {n}",
        "the {n} garden centre", "the bicycle workshop {n}", "the town hall of {n}", "the {n} supermarket",
        "the climbing gym {n}", "the {n} playground", "the post office in {n}", "the {n} car park", "the {n} zoo",
        "the {n} cinema", "the co-working space {n}", "the {n} repair café", "the {n} community kitchen",
        "the recycling yard in {n}", "the {n} youth club", "the {n} skating rink", "the flower market in {n}",
    ),
    "room": (
        "room {c}", "the meeting room {n}", "the {n} studio", "the laboratory {c}", "the {n} lecture hall", "the workshop {c}",
        "the storage room {c}", "the {n} classroom", "the {n} kitchen", "the server room {c}", "the print room {c}",
    ),
    "device": (
        "the printer {c}", "the {n} coffee machine", "the projector {c}", "the laser cutter {c}", "the heat pump {n}",
        "the {n} router", "the 3D printer {n}", "the lawn mower {c}", "the freezer {c}", "the scanner {n}",
        "the dishwasher {c}", "the electric bike {n}", "the drone {c}", "the oven {n}", "the air conditioner {c}",
        "the sewing machine {n}", "the microphone {c}", "the solar inverter {n}",
    ),
    "service": (
        "the {n} app", "the backup service {n}", "the {n} database", "the payment service {n}", "the {n} newsletter",
        "the {n} web shop", "the mail server {n}", "the build server {n}", "the {n} search engine", "the job queue {n}",
        "the login service {n}", "the {n} dashboard", "the {n} chatbot", "the file store {n}", "the {n} API",
    ),
    "course": (
        "the pottery course {n}", "course {c}", "the {n} swimming course", "the Spanish class {n}", "the first aid course {n}",
        "the {n} cooking class", "the typing course {c}", "the chess class {n}", "the {n} dance workshop",
        "the statistics seminar {c}", "the photography course {n}", "the {n} summer school", "the carpentry class {c}",
    ),
    "event": (
        "the {n} summer party", "the {n} book fair", "the {n} marathon", "the flea market in {n}", "the {n} job fair",
        "the {n} open day", "the {n} chess tournament", "the {n} science night", "the {n} team meeting",
        "the {n} charity run", "the {n} game jam", "the {n} award ceremony", "the {n} spring cleaning",
    ),
    "product": (
        "the backpack {n}", "the tent {c}", "the desk {n}", "the lamp {n}", "the {n} running shoe", "the kettle {c}",
        "the {n} office chair", "the jacket {n}", "the camping stove {c}", "the {n} watering can", "the {n} notebook",
        "the headphones {c}", "the {n} toolbox", "the bookshelf {n}", "the guitar {c}", "the {n} suitcase",
    ),
    "membership": (
        "the {n} subscription", "the {n} season ticket", "plan {n}", "the {n} membership", "the {n} insurance",
        "the {n} phone contract", "the electricity tariff {n}", "the {n} scholarship", "the {n} parking permit",
        "the {n} loyalty card", "the {n} student discount", "the {n} lunch voucher",
    ),
    "project": (
        "project {n}", "the {n} migration", "the {n} renovation", "the {n} survey", "the {n} pilot", "the research group {n}",
        "the {n} start-up", "the {n} working group", "the {n} campaign", "the {n} redesign", "the housing project {n}",
    ),
    "transport": (
        "bus line {c}", "the ferry to {n}", "the tram {c}", "the shuttle to {n}", "the night bus to {n}", "the cable car {n}",
        "the car-sharing station {n}", "the school bus {c}", "the bike rental {n}", "the airport express {c}",
    ),
    "rule": (
        "the returns policy of {n}", "the {n} house rules", "the {n} loan agreement", "the {n} dress code",
        "the {n} travel policy", "the {n} safety rules", "the {n} exam regulations", "the {n} expense rules",
    ),
    "recipe": (
        "the {n} soup", "the {n} bread", "the {n} cake", "the {n} curry", "the {n} salad", "the {n} stew", "the {n} pie",
    ),
}  # fmt: skip
"""How a thing of each kind is called; {n} is an invented name, {c} a code."""


@dataclass(frozen=True)
class Attribute:
    """Something that can be known about a thing.

    Attributes:
        name: of the attribute.
        kinds: of things that have it, separated by spaces.
        value: draws one.
        says: sentences that tell it; {e} is the thing and {v} the value.
        asks: questions after it, with {e}.
    """

    name: str
    kinds: str
    value: Callable[[random.Random], str]
    says: tuple[str, ...]
    asks: tuple[str, ...]


def _number(low: int, high: int) -> Callable[[random.Random], str]:
    return lambda draw: str(draw.randint(low, high))


def _of(*choices: str) -> Callable[[random.Random], str]:
    return lambda draw: draw.choice(choices)


def _spot(draw: random.Random) -> str:
    """Somewhere in a building or a town."""
    return draw.choice(
        [
            f"{draw.randint(2, 199)} {values.place(draw)} Street",
            f"on floor {draw.randint(2, 19)}",
            f"next to the {draw.choice(['lift', 'fountain', 'main entrance', 'stairs', 'canteen', 'bus stop', 'chapel', 'bridge'])}",
            f"behind the {draw.choice(['school', 'old mill', 'car park', 'reception', 'gym', 'station', 'church', 'archive'])}",
            f"in building {values.code(draw)}",
            f"at {values.place(draw)} Square",
        ]
    )


def _kept(draw: random.Random) -> str:
    where = draw.choice(["the top drawer of the {a} desk", "the {c} cabinet", "locker {n}", "the cupboard under the {a} stairs",
                         "shelf {n} of the archive", "the {c} box at the reception", "the safe in room {n}"])  # fmt: skip
    return where.format(
        a=draw.choice(["front", "back", "left", "oak"]), c=draw.choice(values.COLOURS), n=draw.randint(2, 300)
    )


def _team(draw: random.Random) -> str:
    return draw.choice(
        ["the facilities team", "the design team", "the night shift", "the finance office", "the student council",
         "the data team", "the gardeners", "the caretaker", "the help desk", "the quality group", "the youth board",
         "the parents' association", "the logistics team", "the legal department", "the kitchen crew", "the security team",
         "the platform team", "the press office", "the volunteers of " + values.place(draw)]
    )  # fmt: skip


def _action(draw: random.Random) -> str:
    return draw.choice(
        ["press the {c} button for {n} seconds", "call extension {n}", "switch off the main valve", "fill in form {k}",
         "restart the {c} controller", "write to {m}", "leave through the {c} door", "replace the filter", "show your {c} card",
         "unplug the cable for {n} minutes", "clean the sensor with a dry cloth", "enter the code {n}", "ask {p} for a new key",
         "wait {n} minutes and try again", "open a ticket in the queue {k}", "turn the {c} lever to the left"]
    ).format(c=draw.choice(values.COLOURS), n=draw.randint(3, 600), k=values.code(draw), m=values.email(draw), p=values.person(draw))  # fmt: skip


def _reason(draw: random.Random) -> str:
    return draw.choice(
        ["the roof is being repaired", "the licence has run out", "too few people signed up", "a pipe burst", "the supplier went bankrupt",
         "the lift is out of order", "of a strike", "of the strong wind", "the new software failed its test", "the road is closed",
         "a sensor was wired the wrong way round", "the budget was cut", "of the school holidays", "an inspection is due",
         "the disk was full", "a certificate had expired", "mice had eaten the cables", "the trainer is ill"]
    )  # fmt: skip


_ANY = " ".join(KINDS)
ATTRIBUTES: tuple[Attribute, ...] = (
    Attribute("opening", "place room", values.clock,
        ("{e} opens at {v}.", "Doors of {e} open at {v}.", "From {v} on, visitors can enter {e}.", "You can get into {e} from {v}."),
        ("When does {e} open?", "From what time can I go to {e}?", "How early can people enter {e}?", "What is the opening time of {e}?")),
    Attribute("closing", "place room", values.clock,
        ("{e} closes at {v}.", "Everybody has to leave {e} by {v}.", "{e} shuts its doors at {v}.", "{e} stays open until {v}."),
        ("When does {e} close?", "Until when is {e} open?", "How late can I stay at {e}?", "By what time must one be out of {e}?")),
    Attribute("day off", "place service transport", lambda d: d.choice(values.WEEKDAYS),
        ("{e} is closed on {v}s.", "There is no service at {e} on {v}.", "On {v}s {e} stays shut.", "{e} takes a break every {v}."),
        ("On which day is {e} closed?", "Which weekday does {e} not operate?", "What is the day off of {e}?")),
    Attribute("price", "course event product membership transport", values.money,
        ("{e} costs {v}.", "The price of {e} is {v}.", "You pay {v} for {e}.", "{v} is charged for {e}.", "For {e} we ask {v}."),
        ("How much is {e}?", "What does {e} cost?", "What do I have to pay for {e}?", "What's the price of {e}?", "How expensive is {e}?")),
    Attribute("late fee", "course membership place", values.money,
        ("Whoever is late pays {v} at {e}.", "The late fee of {e} is {v}.", "{e} adds {v} when something comes too late.", "Coming too late costs {v} at {e}."),
        ("What is the late fee of {e}?", "How much extra do latecomers pay at {e}?", "What does it cost to be late at {e}?")),
    Attribute("discount", "course membership product event", values.percentage,
        ("Students get {v} off {e}.", "The student discount on {e} is {v}.", "With a student card {e} is {v} cheaper.", "{e} is reduced by {v} for students."),
        ("What discount do students get on {e}?", "How much cheaper is {e} for students?", "By how much is {e} reduced with a student card?")),
    Attribute("head", "project place service course event room", values.person,
        ("{e} is led by {v}.", "{v} runs {e}.", "The person in charge of {e} is {v}.", "{v} is responsible for {e}.", "{v} looks after {e}."),
        ("Who leads {e}?", "Who is in charge of {e}?", "Who is responsible for {e}?", "Who runs {e}?", "Whom should I ask about {e}?")),
    Attribute("deputy", "project place service", values.person,
        ("When the head is away, {v} decides about {e}.", "The deputy for {e} is {v}.", "{v} stands in at {e} during absences.", "{v} fills in as the substitute at {e}."),
        ("Who is the deputy for {e}?", "Who stands in at {e} when the head is away?", "Who is the substitute at {e}?")),
    Attribute("founder", "place project service product", values.person,
        ("{e} was founded by {v}.", "{v} started {e}.", "The idea for {e} came from {v}, who set it up.", "{v} is the founder of {e}."),
        ("Who founded {e}?", "Who started {e}?", "Who set up {e}?", "Whose idea was {e}?")),
    Attribute("year", "place project service product rule", _number(1899, 2024),
        ("{e} was started in {v}.", "{e} has existed since {v}.", "It was in {v} that {e} began.", "{v} was the first year of {e}."),
        ("In which year was {e} started?", "Since when has {e} existed?", "When did {e} begin?", "How far back does {e} go?")),
    Attribute("capacity", "place room event course transport", _number(6, 900),
        ("{e} has room for {v} people.", "Up to {v} people fit into {e}.", "At most {v} persons are allowed in {e}.", "{e} holds {v} people.", "The capacity of {e} is {v} people."),
        ("How many people fit into {e}?", "What is the capacity of {e}?", "How many persons are allowed in {e}?", "How many people can {e} take?")),
    Attribute("location", "place room device event", _spot,
        ("{e} is {v}.", "You find {e} {v}.", "{e} can be found {v}.", "Look for {e} {v}."),
        ("Where is {e}?", "Where do I find {e}?", "What is the location of {e}?", "How do I find {e}?")),
    Attribute("key", "room device place", _kept,
        ("The key to {e} is kept in {v}.", "You get the key to {e} from {v}.", "The key for {e} lies in {v}.", "Put the key of {e} back into {v}."),
        ("Where is the key to {e}?", "Where is the key for {e} kept?", "From where do I get the key of {e}?")),
    Attribute("manual", "device product", _kept,
        ("The manual of {e} is in {v}.", "You find the instructions for {e} in {v}.", "Instructions for {e} are stored in {v}."),
        ("Where is the manual of {e}?", "Where can I find the instructions for {e}?", "Where are the instructions of {e} stored?")),
    Attribute("deadline", "course event project membership", values.date,
        ("The deadline for {e} is {v}.", "Sign up for {e} by {v}.", "Applications for {e} are accepted until {v}.", "Registration for {e} ends on {v}."),
        ("What is the deadline for {e}?", "Until when can I sign up for {e}?", "When does registration for {e} end?", "By which date must one apply for {e}?")),
    Attribute("start", "course event project", values.date,
        ("{e} starts on {v}.", "{e} begins on {v}.", "The first day of {e} is {v}.", "{e} kicks off on {v}."),
        ("When does {e} start?", "On which date does {e} begin?", "What is the first day of {e}?")),
    Attribute("length", "course event transport project", values.duration,
        ("{e} takes {v}.", "{e} lasts {v}.", "The whole of {e} is over after {v}.", "{v} is how long {e} goes on."),
        ("How long does {e} take?", "How long is {e}?", "What is the duration of {e}?", "How much time does {e} need?")),
    Attribute("warranty", "product device membership", values.duration,
        ("The warranty on {e} lasts {v}.", "{e} comes with a guarantee of {v}.", "Repairs of {e} are free for {v}.", "{e} is covered for {v} after purchase."),
        ("How long is the warranty on {e}?", "For how long is {e} guaranteed?", "What is the guarantee period of {e}?", "For how long are repairs of {e} free?")),
    Attribute("notice", "membership rule course", values.duration,
        ("{e} can be cancelled with {v} notice.", "The notice period of {e} is {v}.", "To leave {e}, say so {v} in advance.", "Cancelling {e} needs a notice of {v}."),
        ("What is the notice period of {e}?", "How long in advance must I cancel {e}?", "How much notice is needed to leave {e}?")),
    Attribute("frequency", "transport service device event", lambda d: f"every {d.choice([values.duration(d), d.choice(values.WEEKDAYS), 'second ' + d.choice(values.WEEKDAYS)])}",
        ("{e} runs {v}.", "{v}, {e} runs once.", "A run of {e} takes place {v}.", "{e} is scheduled {v}."),
        ("How often does {e} run?", "How frequent is {e}?", "What is the interval of {e}?", "At what intervals does {e} take place?")),
    Attribute("weight", "product device", lambda d: f"{d.randint(1, 80)}.{d.randint(1, 9)} kg",
        ("{e} weighs {v}.", "The weight of {e} is {v}.", "At {v}, {e} can be carried by most people.", "{e} brings {v} to the scales."),
        ("How heavy is {e}?", "What does {e} weigh?", "What is the weight of {e}?")),
    Attribute("material", "product room", lambda d: d.choice(values.MATERIALS),
        ("{e} is made of {v}.", "{v} is the material of {e}.", "We use {v} for {e}.", "{e} consists mostly of {v}."),
        ("What is {e} made of?", "Which material is used for {e}?", "What does {e} mostly consist of?")),
    Attribute("colour", "product room device transport", lambda d: d.choice(values.COLOURS),
        ("{e} is {v}.", "{e} is painted {v}.", "You recognise {e} by its {v} colour.", "The colour of {e} is {v}."),
        ("What colour is {e}?", "Which colour does {e} have?", "By which colour do I recognise {e}?")),
    Attribute("power", "device", lambda d: f"{d.randint(5, 4000)} watts",
        ("{e} draws {v}.", "The power consumption of {e} is {v}.", "{e} needs {v} when it runs.", "While running, {e} uses {v}."),
        ("How much power does {e} use?", "What is the consumption of {e}?", "How many watts does {e} need?")),
    Attribute("temperature", "room device recipe", lambda d: f"{d.randint(3, 240)} °C",
        ("{e} is kept at {v}.", "Set {e} to {v}.", "The temperature for {e} is {v}.", "{e} needs {v}."),
        ("What temperature does {e} need?", "To how many degrees is {e} set?", "At what temperature is {e} kept?")),
    Attribute("limit", "service rule membership device", values.quantity,
        ("{e} allows at most {v}.", "More than {v} are not accepted by {e}.", "The upper limit of {e} is {v}.", "{e} stops at {v}."),
        ("What is the limit of {e}?", "How much does {e} allow at most?", "What is the most that {e} accepts?")),
    Attribute("version", "service device rule", lambda d: f"{d.randint(1, 14)}.{d.randint(0, 29)}.{d.randint(0, 9)}",
        ("{e} is at version {v}.", "The current release of {e} is {v}.", "Version {v} of {e} is in use.", "{e} was updated to {v}."),
        ("Which version of {e} is in use?", "What is the current release of {e}?", "What version does {e} have?")),
    Attribute("port", "service", _number(1024, 65000),
        ("{e} listens on port {v}.", "Connect to {e} through port {v}.", "The port of {e} is {v}.", "Port {v} belongs to {e}."),
        ("On which port does {e} listen?", "Which port do I use for {e}?", "What is the port number of {e}?")),
    Attribute("language", "service project", _of("Python", "Rust", "Go", "Java", "Kotlin", "Elixir", "Haskell", "Ruby", "C++", "Swift", "Zig", "Scala"),
        ("{e} is written in {v}.", "The code of {e} is {v}.", "{v} is the programming language of {e}.", "Developers of {e} work in {v}."),
        ("Which programming language is {e} written in?", "In what language is {e} programmed?", "What is the code of {e} written in?")),
    Attribute("retention", "service rule", values.duration,
        ("{e} keeps its records for {v}.", "Records of {e} are deleted after {v}.", "After {v}, {e} removes old data.", "Data in {e} is stored for {v}."),
        ("How long does {e} keep its records?", "After what time is old data of {e} deleted?", "For how long is data stored in {e}?")),
    Attribute("phone", "place service project transport", lambda d: f"0{d.randint(20, 99)} {d.randint(100, 999)} {d.randint(1000, 9999)}",
        ("The number of {e} is {v}.", "Call {e} at {v}.", "{e} can be reached by phone at {v}.", "Dial {v} for {e}."),
        ("What is the phone number of {e}?", "How can I reach {e} by phone?", "Which number do I dial for {e}?")),
    Attribute("mail", "place service project course", values.email,
        ("Questions about {e} go to {v}.", "Write to {v} about {e}.", "The address of {e} is {v}.", "{e} answers mail sent to {v}."),
        ("Where do I send questions about {e}?", "What is the mail address of {e}?", "To which address can I write about {e}?")),
    Attribute("team", "service device room project rule", _team,
        ("{e} belongs to {v}.", "{v} maintains {e}.", "{v} takes care of {e}.", "{e} is looked after by {v}."),
        ("Who maintains {e}?", "To whom does {e} belong?", "Who takes care of {e}?", "Which team looks after {e}?")),
    Attribute("trouble", "device service room", _action,
        ("If {e} fails, {v}.", "When {e} stops working, {v}.", "In case of trouble with {e}, {v}.", "Should {e} not respond, {v}."),
        ("What should I do if {e} fails?", "What do I do when {e} stops working?", "How do I react to a failure of {e}?", "{e} doesn't respond. What now?")),
    Attribute("reason", "place service transport event", _reason,
        ("{e} is closed because {v}.", "Because {v}, {e} is not available.", "{e} had to stop because {v}.", "{e} is down because {v}."),
        ("Why is {e} not available?", "Why did {e} stop?", "What is the reason that {e} is closed?", "Why can't I use {e}?")),
    Attribute("bring", "course event place", _of("a towel", "an apron", "a passport photo", "indoor shoes", "a lock", "a laptop", "a water bottle", "your own cup", "a library card", "gloves", "a signed form", "headphones", "a sleeping mat", "a helmet"),
        ("Please bring {v} to {e}.", "Participants of {e} need {v}.", "Don't forget {v} when you come to {e}.", "For {e} everyone needs {v}."),
        ("What must I bring to {e}?", "What do participants of {e} need?", "What shouldn't one forget when coming to {e}?")),
    Attribute("forbidden", "place room event rule", _of("dogs", "glass bottles", "photography", "smoking", "bicycles", "hot food", "loud music", "balloons", "umbrellas", "skateboards", "candles", "chewing gum"),
        ("{v} is not allowed at {e}.", "{e} forbids {v}.", "No {v} at {e}, please.", "At {e} there's a ban on {v}."),
        ("What is not allowed at {e}?", "What does {e} forbid?", "What is banned at {e}?")),
    Attribute("age", "course event place membership", _number(3, 21),
        ("The minimum age for {e} is {v}.", "{e} is open to everybody from the age of {v}.", "Nobody under {v} is admitted to {e}.", "You must be at least {v} years old for {e}."),
        ("What is the minimum age for {e}?", "How old must one be for {e}?", "From what age is {e} open?")),
    Attribute("ingredient", "recipe", _of("fennel", "roasted chestnuts", "smoked paprika", "lemon zest", "black garlic", "buttermilk", "caraway", "dried apricots", "walnuts", "ginger", "tahini", "rye flour", "maple syrup", "sage"),
        ("The secret of {e} is {v}.", "{e} gets its taste from {v}.", "What makes {e} special is {v}.", "Don't leave out the {v} in {e}."),
        ("What makes {e} special?", "Where does {e} get its taste from?", "What is the secret ingredient of {e}?")),
    Attribute("servings", "recipe", _number(2, 40),
        ("{e} serves {v}.", "The amounts for {e} are enough for {v} people.", "{e} feeds {v}.", "You get {v} portions of {e}."),
        ("How many people does {e} serve?", "How many portions of {e} do you get?", "For how many people is {e} enough?")),
    Attribute("cooking", "recipe", lambda d: f"{d.randint(5, 240)} minutes",
        ("{e} cooks for {v}.", "Leave {e} on the heat for {v}.", "{e} is done after {v}.", "After {v}, {e} is ready."),
        ("How long does {e} cook?", "After how long is {e} done?", "When is {e} ready?")),
    Attribute("payment", "place event membership product", _of("cash only", "bank transfer", "credit card", "direct debit", "gift vouchers", "a prepaid card", "monthly invoice", "mobile payment"),
        ("{e} accepts {v}.", "You pay for {e} by this means: {v}.", "For {e}, the means of payment is {v}.", "{e} is paid by {v}."),
        ("How can I pay for {e}?", "What means of payment does {e} accept?", "How is {e} paid?")),
    Attribute("sponsor", "event project course place", lambda d: values.place(d) + d.choice([" Bank", " Foundation", " Ltd", " Brothers", " Insurance", " Trust"]),
        ("{e} is paid for by {v}.", "{v} sponsors {e}.", "The money for {e} comes from {v}.", "{e} is made possible by {v}."),
        ("Who sponsors {e}?", "Where does the money for {e} come from?", "Who pays for {e}?", "By whom is {e} funded?")),
    Attribute("goal", "project event", _of("halve the waiting time", "plant 400 trees", "collect old phones", "map every footpath", "replace the paper forms", "bring neighbours together", "cut the energy bill", "train twenty mentors", "digitise the index cards", "find a new logo", "reduce food waste"),
        ("The aim of {e} is to {v}.", "{e} wants to {v}.", "With {e} we hope to {v}.", "{e} was set up to {v}."),
        ("What is the aim of {e}?", "What does {e} want to achieve?", "What is {e} for?", "Why was {e} set up?")),
)  # fmt: skip

FILLERS: tuple[str, ...] = (
    "Thank you for your patience.", "Please tell your colleagues.", "Changes are announced on the notice board.", "Feedback is welcome at any time.",
    "Photos of last year are in the hallway.", "We review this page twice a year.", "Most visitors are happy with the way things work.",
    "The weather plays no role here.", "There is a small box for suggestions.", "Older versions of this text are kept in the archive.",
    "Many people ask about this.", "A short film explains the rest.", "The form can be filled in by hand.", "Volunteers are always needed.",
    "A map hangs at the entrance.", "Please keep the area tidy.", "Lost items are handed over at the desk.", "Nothing else has changed.",
    "The background is described in the annual report.", "Everyone is treated alike.", "Some details are still being worked out.",
    "Questions came up at the last meeting.", "It has become popular with families.", "Neighbours were informed by letter.",
    "The text was translated from another language.", "More than half of the users are regulars.", "An audit found no problems.",
    "Stickers with the new logo are available.", "Please read to the end.", "This applies on normal days.",
)  # fmt: skip
"""Sentences that answer no question."""
