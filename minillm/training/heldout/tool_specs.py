"""The held-out tools, by domain: what each takes, and requests from which every argument can be known.

A request's {placeholders} are the arguments that a right call has; a pair brings more arguments, which its words imply.
A request that begins with a small letter is an order, which `pools.frame` puts into a sentence.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Request = str | tuple[str, Mapping[str, Any]]


@dataclass(frozen=True)
class ToolSpec:
    """A tool before it has got a style of name.

    Attributes:
        words: its name's words.
        description: what it does.
        arguments: by name, a kind of `pools.KINDS`, "flag", or an enum's values; with a "?" or a None if optional.
        requests: see the module.
    """

    words: str
    description: str
    arguments: Mapping[str, str | Sequence[str | None]]
    requests: Sequence[Request]


_HARBOUR = (
    ToolSpec(
        "reserve berth", "Holds a berth for a vessel from its day of arrival.",
        {"vessel": "vessel", "arrival_date": "date", "nights": "few?"},
        ("reserve a berth for the {vessel}, arriving {arrival_date}",
         "keep a mooring free for {vessel} from {arrival_date}, {nights} nights",
         "We come in on {arrival_date} with the {vessel} and stay {nights} nights. I'd like a berth."),
    ),
    ToolSpec(
        "cancel berth", "Gives a reserved berth back; takes the reservation's code.", {"reservation": "code"},
        ("cancel berth reservation {reservation}", "The {reservation} reservation is off, we won't need the berth.",
         "give back the berth we hold under {reservation}"),
    ),
    ToolSpec(
        "tide times", "Times of high and low water at a port on one day.", {"port": "place", "date": "date"},
        ("tell me when high water is at {port} on {date}", "When does the tide turn in {port} on {date}?",
         "look up high and low water for {date}, port of {port}"),
    ),
    ToolSpec(
        "order pilot", "Sends a pilot to a ship at a time of day.",
        {"vessel": "vessel", "time": "clock", "boarding_side": ["port", "starboard", None]},
        ("send a pilot to the {vessel} at {time}", "{vessel} needs a pilot aboard at {time}, {boarding_side} side.",
         "get a pilot out to {vessel} for {time}"),
    ),
    ToolSpec(
        "switch lighthouse lamp", "Turns a lighthouse's lamp on or off.", {"lighthouse": "place", "lit": "flag"},
        (("turn the lamp of {lighthouse} lighthouse on", {"lit": True}),
         ("switch off the light at {lighthouse}", {"lit": False}),
         ("The lighthouse at {lighthouse} should go dark now for the repair crew.", {"lit": False})),
    ),
    ToolSpec(
        "declare cargo", "Files what a vessel carries, in tonnes.",
        {"vessel": "vessel", "cargo": "cargo", "tonnes": "many"},
        ("declare {tonnes} tonnes of {cargo} aboard the {vessel}", "{vessel} carries {cargo}, {tonnes} t. File that.",
         "put {tonnes} tonnes of {cargo} down as the cargo of {vessel}"),
    ),
)  # fmt: skip
_CLINIC = (
    ToolSpec(
        "book consultation", "Makes an appointment for a patient with a department.",
        {"patient": "person", "department": "department", "date": "date", "time": "clock?"},
        ("book {patient} into {department} on {date}", "{patient} should see {department} on {date} at {time}.",
         "get {patient} a slot with {department} for {date}, {time}"),
    ),
    ToolSpec(
        "move consultation", "Changes the day of an appointment that exists.",
        {"appointment": "code", "new_date": "date"},
        ("move appointment {appointment} to {new_date}", "Appointment {appointment} has to shift to {new_date}.",
         "reschedule {appointment} for {new_date}"),
    ),
    ToolSpec(
        "ward occupancy", "Counts the occupied and the free beds of a ward.", {"ward": "code"},
        ("tell me how many beds are free on ward {ward}", "How full is ward {ward}?",
         "check whether ward {ward} still has an empty bed"),
    ),
    ToolSpec(
        "record temperature", "Writes a patient's body temperature in °C into the chart.",
        {"patient": "person", "celsius": "warm"},
        ("note a temperature of {celsius} °C for {patient}", "{patient} was just measured at {celsius} °C. Chart it.",
         "put {celsius} degrees into the chart of {patient} as body temperature"),
    ),
    ToolSpec(
        "page clinician", "Calls a member of the staff to a room.",
        {"name": "person", "room": "code", "urgency": ["routine", "urgent", "emergency"]},
        ("page {name} to room {room}, {urgency}", "{name} is wanted in room {room}. It's {urgency}.",
         "call {name} over to {room} with urgency {urgency}"),
    ),
    ToolSpec(
        "release lab report", "Makes a laboratory report visible to the patient.", {"report": "code"},
        ("release lab report {report} to the patient", "Report {report} from the lab may go out to the patient now.",
         "let the patient see laboratory report {report}"),
    ),
)  # fmt: skip
_HIVES = (
    ToolSpec(
        "log inspection", "Notes that a hive was opened and looked at, with the number of brood frames.",
        {"hive": "code", "brood_frames": "few"},
        ("log that I inspected hive {hive} and saw {brood_frames} frames of brood",
         "Opened {hive} today, counted {brood_frames} brood frames. Write up the inspection.",
         "add an inspection for hive {hive}: {brood_frames} brood frames"),
    ),
    ToolSpec(
        "weigh hive", "Reads the scale under a hive.", {"hive": "code"},
        ("read the scale under hive {hive}", "What does hive {hive} weigh right now?",
         "check how heavy hive {hive} has become"),
    ),
    ToolSpec(
        "feed colony", "Has syrup given to a hive, in litres.", {"hive": "code", "litres": "small"},
        ("give hive {hive} {litres} litres of syrup", "The bees in {hive} are short of food, {litres} litres of syrup.",
         "have {litres} l of syrup put on {hive}"),
    ),
    ToolSpec(
        "relocate hive", "Moves a hive to another apiary.", {"hive": "code", "apiary": "place", "date": "date?"},
        ("move hive {hive} to the apiary at {apiary}", "{hive} goes over to the {apiary} apiary on {date}.",
         "have hive {hive} driven to {apiary} apiary"),
    ),
    ToolSpec(
        "record honey harvest", "Enters the kilograms of honey that were taken from an apiary.",
        {"apiary": "place", "kilograms": "many", "kind": ["heather", "lime", "acacia", "chestnut"]},
        ("enter {kilograms} kg of {kind} honey from {apiary}",
         "We took {kilograms} kilos of {kind} honey off at {apiary}. Put it in the books."),
    ),
    ToolSpec(
        "replace queen", "Plans a new queen for a hive.", {"hive": "code", "breeder": "person"},
        ("plan a new queen from {breeder} for hive {hive}", "Hive {hive} gets a new queen, bred by {breeder}."),
    ),
)  # fmt: skip
_MUSEUM = (
    ToolSpec(
        "register find", "Adds an object from a dig to the register, with its trench and depth in cm.",
        {"object": "find", "trench": "code", "depth_cm": "many"},
        ("register a {object} from trench {trench}, {depth_cm} cm down",
         "We lifted a {object} in trench {trench} at {depth_cm} cm. Enter it in the register."),
    ),
    ToolSpec(
        "locate object", "Tells in which room or store an object is.", {"inventory_number": "code"},
        ("find out where object {inventory_number} is kept", "In which store does {inventory_number} lie?",
         "locate item {inventory_number}"),
    ),
    ToolSpec(
        "lend object", "Lends an object to another museum until a day.",
        {"inventory_number": "code", "borrower": "place", "until": "date"},
        ("lend {inventory_number} to the museum in {borrower} until {until}",
         "{borrower} museum borrows {inventory_number}; it comes back on {until}."),
    ),
    ToolSpec(
        "set gallery climate", "Sets the relative humidity of a gallery, in per cent.",
        {"gallery": "code", "humidity": "percent"},
        ("set the humidity in gallery {gallery} to {humidity} %",
         "Gallery {gallery} is too dry. Bring it to {humidity} per cent humidity."),
    ),
    ToolSpec(
        "book museum guide", "Books a guided tour for a group.",
        {"group_size": "few", "date": "date", "language": ["Dutch", "Polish", "Portuguese", "Greek"]},
        ("book a {language} tour for {group_size} people on {date}",
         "A group of {group_size} comes on {date} and wants a guide who speaks {language}."),
    ),
    ToolSpec(
        "request conservation", "Asks the conservators to treat an object.",
        {"inventory_number": "code", "damage": ["mould", "crack", "corrosion", "flaking"], "fragile": "flag?"},
        ("ask the conservators to treat the {damage} on {inventory_number}",
         ("Object {inventory_number} has {damage} and is fragile. Get the conservators on it.", {"fragile": True})),
    ),
)  # fmt: skip
_SKY = (
    ToolSpec(
        "point telescope", "Turns a telescope towards a target.", {"telescope": "code", "target": "star"},
        ("point telescope {telescope} at {target}", "Swing {telescope} round to {target}."),
    ),
    ToolSpec(
        "schedule exposure", "Plans an exposure of a target, in seconds, at a time of the night.",
        {"target": "star", "seconds": "many", "start": "clock", "filter": ["red", "green", "blue", None]},
        ("plan a {seconds} second exposure of {target} at {start}",
         "I want {target} through the {filter} filter, {seconds} seconds, beginning at {start}."),
    ),
    ToolSpec(
        "rise and set", "Tells when an object of the sky rises and sets at a site.",
        {"target": "star", "site": "place"},
        ("find out when {target} rises over {site}", "When does {target} set, seen from {site}?"),
    ),
    ToolSpec(
        "close dome", "Closes an observatory's dome.", {"dome": "code", "reason": ["rain", "wind", "dust"]},
        ("close dome {dome} because of {reason}", "There's {reason} coming, shut dome {dome}."),
    ),
    ToolSpec(
        "download image", "Fetches an exposure as a file.",
        {"exposure": "code", "format": ["FITS", "PNG", "TIFF"]},
        ("fetch exposure {exposure} as {format}", "I need {exposure} as a {format} file."),
    ),
    ToolSpec(
        "report satellite pass", "Reports a satellite that crossed an image.",
        {"exposure": "code", "satellites": "few"},
        ("report {satellites} satellites in exposure {exposure}",
         "{satellites} satellite trails run through exposure {exposure}. File a report."),
    ),
)  # fmt: skip
_BREWERY = (
    ToolSpec(
        "start batch", "Begins a brew of a beer, in litres.", {"beer": "beer", "litres": "many"},
        ("start a batch of {beer}, {litres} litres", "Begin brewing {litres} l of {beer}."),
    ),
    ToolSpec(
        "set tank temperature", "Sets the temperature of a tank, in °C.", {"tank": "code", "celsius": "decimal"},
        ("set tank {tank} to {celsius} °C", "Tank {tank} should be at {celsius} degrees."),
    ),
    ToolSpec(
        "measure gravity", "Reads the density of what's in a tank.", {"tank": "code"},
        ("measure the gravity in tank {tank}", "What gravity does tank {tank} show?"),
    ),
    ToolSpec(
        "fill kegs", "Fills kegs from a tank.", {"tank": "code", "kegs": "few"},
        ("fill {kegs} kegs from tank {tank}", "Draw {kegs} kegs off tank {tank}."),
    ),
    ToolSpec(
        "order malt", "Orders malt from the maltster, in kilograms.",
        {"kind": ["pale", "munich", "roasted"], "kilograms": "many"},
        ("order {kilograms} kg of {kind} malt", "We're out of {kind} malt, get {kilograms} kilos."),
    ),
    ToolSpec(
        "add hops", "Adds hops to a tank, in grams.", {"tank": "code", "grams": "many", "dry_hopping": "flag?"},
        ("add {grams} g of hops to tank {tank}", ("dry-hop tank {tank} with {grams} grams", {"dry_hopping": True})),
    ),
)  # fmt: skip
_RAILWAY = (
    ToolSpec(
        "set signal", "Sets a signal beside the track.", {"signal": "code", "aspect": ["red", "yellow", "green"]},
        ("set signal {signal} to {aspect}", "Signal {signal} must show {aspect}."),
    ),
    ToolSpec(
        "report delay", "Reports how many minutes late a train is.",
        {"train": "code", "minutes": "few", "cause": ["snow", "staff", "signals", None]},
        ("report train {train} as {minutes} minutes late",
         "{train} runs {minutes} minutes behind, the cause is {cause}. Report it."),
    ),
    ToolSpec(
        "next departures", "Lists the trains that leave a station next.", {"station": "place", "count": "few?"},
        ("list the next trains from {station}", "What leaves {station} next?",
         "show me the next {count} departures at {station}"),
    ),
    ToolSpec(
        "close track", "Closes a track for works until a day.", {"track": "code", "until": "date"},
        ("close track {track} until {until}", "Nothing may run on track {track} before {until}. Shut it."),
    ),
    ToolSpec(
        "couple wagons", "Hangs more wagons onto a train.", {"train": "code", "wagons": "few"},
        ("couple {wagons} more wagons to train {train}", "Train {train} needs {wagons} extra wagons."),
    ),
    ToolSpec(
        "reserve seat", "Reserves a seat in a train for a traveller.",
        {"train": "code", "traveller": "person", "seat": ["window", "aisle", None]},
        ("reserve a seat in {train} for {traveller}", "{traveller} would like a {seat} seat in train {train}."),
    ),
)  # fmt: skip
_VOLCANO = (
    ToolSpec(
        "seismometer reading", "Reads the tremor that a seismic station measures now.", {"station": "code"},
        ("read seismic station {station}", "How strong is the tremor at station {station}?"),
    ),
    ToolSpec(
        "raise alert", "Sets the alert level of a volcano.",
        {"volcano": "place", "level": ["green", "yellow", "orange", "red"]},
        ("set the alert for {volcano} to {level}", "Mount {volcano} goes to {level} alert."),
    ),
    ToolSpec(
        "log gas sample", "Stores a gas sample's sulphur dioxide, in ppm.",
        {"vent": "code", "ppm": "decimal"},
        ("store {ppm} ppm of sulphur dioxide for vent {vent}",
         "The sample from vent {vent} gave {ppm} ppm SO2. Log it."),
    ),
    ToolSpec(
        "plan drone flight", "Plans a drone's flight over a crater.",
        {"volcano": "place", "date": "date", "altitude_m": "many"},
        ("plan a drone flight over {volcano} on {date} at {altitude_m} m",
         "The drone should fly over the crater of {volcano} on {date}, {altitude_m} metres up."),
    ),
    ToolSpec(
        "close crater path", "Closes a path to the crater for hikers.", {"path": "code", "days": "few"},
        ("close path {path} for {days} days",
         "No hikers on path {path} for the next {days} days, please arrange that."),
    ),
    ToolSpec(
        "ash forecast", "Forecasts the fall of ash in a town on a day.", {"town": "place", "date": "date"},
        ("forecast the ash over {town} for {date}", "Will ash fall on {town} on {date}?"),
    ),
)  # fmt: skip
_ORCHESTRA = (
    ToolSpec(
        "call rehearsal", "Calls the musicians to a rehearsal.",
        {"composer": "composer", "date": "date", "time": "clock"},
        ("call a rehearsal of the {composer} on {date} at {time}",
         "We practise the {composer} on {date}, {time}. Tell the musicians."),
    ),
    ToolSpec(
        "find substitute", "Looks for somebody to play an instrument on a day.",
        {"instrument": "instrument", "date": "date"},
        ("find a substitute for the {instrument} on {date}",
         "Our {instrument} player is ill on {date}. Who could step in?"),
    ),
    ToolSpec(
        "order parts", "Orders printed parts of a composer's piece from the publisher.",
        {"composer": "composer", "copies": "few"},
        ("order {copies} copies of the {composer} parts", "Get {copies} sets of parts for the {composer}."),
    ),
    ToolSpec(
        "repair instrument", "Sends an instrument to the workshop.", {"instrument": "instrument", "owner": "person"},
        ("send the {instrument} of {owner} to the workshop", "{owner} has a broken {instrument}. Get it mended."),
    ),
    ToolSpec(
        "hold concert seats", "Holds seats in the hall for a guest.",
        {"guest": "person", "seats": "few", "area": ["stalls", "balcony", "box"]},
        ("hold {seats} seats in the {area} for {guest}", "{guest} comes with friends: {seats} places, {area}."),
    ),
)  # fmt: skip
_FESTIVAL = (
    ToolSpec(
        "schedule screening", "Puts a film on in a hall.",
        {"film": "film", "hall": "code", "date": "date", "time": "clock"},
        ("show \"{film}\" in hall {hall} on {date} at {time}",
         "\"{film}\" plays in hall {hall}, {date}, {time}. Schedule it."),
    ),
    ToolSpec(
        "appoint juror", "Adds a person to the jury of a section.",
        {"name": "person", "section": ["documentary", "animation", "short film"]},
        ("put {name} on the {section} jury", "{name} has agreed to be a juror for {section}. Add the name."),
    ),
    ToolSpec(
        "ticket sales", "Counts the tickets sold for a film.", {"film": "film"},
        ("count the tickets sold for \"{film}\"", "How well is \"{film}\" selling?"),
    ),
    ToolSpec(
        "issue badge", "Prints a badge for a guest of the festival.",
        {"name": "person", "role": ["press", "guest", "crew"]},
        ("print a {role} badge for {name}", "{name} arrives today and needs a {role} badge."),
    ),
    ToolSpec(
        "add subtitles", "Orders subtitles for a film.",
        {"film": "film", "languages": "languages"},
        ("order subtitles in {languages} for \"{film}\"", "\"{film}\" needs {languages} subtitles."),
    ),
)  # fmt: skip
_VINEYARD = (
    ToolSpec(
        "plan harvest", "Plans the picking of a plot.", {"plot": "code", "grape": "grape", "date": "date"},
        ("plan the picking of the {grape} on plot {plot} for {date}",
         "We pick plot {plot} on {date}, it's the {grape}. Put it on the plan."),
    ),
    ToolSpec(
        "log sugar", "Stores the sugar of a plot's grapes, in degrees Oechsle.", {"plot": "code", "oechsle": "many"},
        ("log {oechsle} Oechsle for plot {plot}", "Plot {plot} measured {oechsle} degrees Oechsle, note that."),
    ),
    ToolSpec(
        "frost warning", "Tells whether a frost is expected at a vineyard.", {"vineyard": "place"},
        ("check whether frost is expected at {vineyard}", "Do we have to fear frost in the {vineyard} vineyard?"),
    ),
    ToolSpec(
        "rack barrel", "Moves the wine of one barrel into another.", {"source": "code", "destination": "code"},
        ("rack barrel {source} into {destination}", "The wine in {source} goes into barrel {destination}."),
    ),
    ToolSpec(
        "irrigate plot", "Waters a plot for some hours.", {"plot": "code", "hours": "few"},
        ("water plot {plot} for {hours} hours", "Plot {plot} is parched. Give it {hours} hours of water."),
    ),
)  # fmt: skip
_MOUNTAIN = (
    ToolSpec(
        "book hut beds", "Books beds in a mountain hut for a night.",
        {"hut": "place", "beds": "few", "date": "date", "half_board": "flag?"},
        ("book {beds} beds in the {hut} hut on {date}",
         ("get us {beds} beds at {hut} hut for {date}, half board", {"half_board": True})),
    ),
    ToolSpec(
        "avalanche level", "Tells the danger of avalanches in an area today.", {"area": "place"},
        ("check the avalanche danger around {area}", "How likely are avalanches at {area} today?"),
    ),
    ToolSpec(
        "launch rescue", "Sends rescuers to a place.",
        {"location": "place", "injured": "few", "helicopter": "flag"},
        (("send a rescue team with a helicopter to {location}, {injured} people hurt", {"helicopter": True}),
         ("{injured} hikers are injured below {location}. Send rescuers on foot, no helicopter.",
          {"helicopter": False})),
    ),
    ToolSpec(
        "supply flight", "Plans a flight with supplies for a hut.",
        {"hut": "place", "kilograms": "many", "date": "date"},
        ("fly {kilograms} kg of supplies up to {hut} hut on {date}",
         "The {hut} hut is running low. Plan {kilograms} kg by air for {date}."),
    ),
    ToolSpec(
        "report rockfall", "Reports stones that fell on a trail.", {"trail": "code", "blocked": "flag"},
        (("report rockfall on trail {trail}; the way is blocked", {"blocked": True}),
         ("Stones came down on trail {trail}, though one can still pass. Report it.", {"blocked": False})),
    ),
)  # fmt: skip

DOMAINS: Mapping[str, Sequence[ToolSpec]] = {
    "a harbour": _HARBOUR, "a hospital": _CLINIC, "an apiary": _HIVES, "a museum": _MUSEUM, "an observatory": _SKY,
    "a brewery": _BREWERY, "a railway": _RAILWAY, "a volcano observatory": _VOLCANO, "an orchestra": _ORCHESTRA,
    "a film festival": _FESTIVAL, "a vineyard": _VINEYARD, "the mountain rescue": _MOUNTAIN,
}  # fmt: skip
"""By domain, tools of which no two can do each other's work."""

QUESTIONS = (
    "Why do honey bees dance inside the hive?", "What is the difference between a barque and a brig?",
    "Explain in one sentence what a caldera is.", "How does a diving bell work?", "Who wrote the opera Fidelio?",
    "What does a sommelier do?", "Thanks, you were a great help!", "Good morning! How are you?",
    "Give me a synonym for 'weathered'.", "What's the tallest kind of tree?", "Tell me a short joke about tubas.",
    "Write one line of verse about fog.", "Why is the sea salty?", "How many legs does a spider have?",
    "Is basalt a volcanic rock?", "What does the word 'crescendo' mean?", "How do you pronounce 'quay'?",
    "Which planet has the most striking rings?", "Why does beer foam?", "What does a conductor's baton do?",
    "What is yeast?", "Translate 'good night' into Italian.", "What is 17 times 4?", "Correct my spelling: 'recieve'.",
    "Why do trains stay on curved rails?", "Which colour do you get from blue and yellow?",
    "What is a stethoscope for?",
    "Is a tomato a fruit?", "How do tree rings show a tree's age?", "Never mind, I found it myself.",
    "What does 'posthumous' mean?", "Who was Galileo?", "How is glass made?", "Why do we yawn?",
    "Name two woodwind instruments.", "What is the opposite of 'ancient'?", "Why do wine bottles have a hollow base?",
    "What is a glacier?",
)  # fmt: skip
"""What can be answered without any tool."""
