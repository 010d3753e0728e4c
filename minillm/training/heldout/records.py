"""What the held-out extraction cases are drawn from: texts of a dozen domains, and the fields that they hold."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Record:
    """A kind of text.

    Attributes:
        title: what it is.
        fields: by name, a kind of `pools.KINDS` ("people" for a list of persons) and what the field is in words.
        texts: each holds all fields but those of `extras` and `flags`.
        extras: by a field that the text may lack, sentences that tell it.
        flags: by a boolean field, a sentence for true and one for false.
    """

    title: str
    fields: Mapping[str, tuple[str, str]]
    texts: Sequence[str]
    extras: Mapping[str, Sequence[str]] = field(default_factory=dict)
    flags: Mapping[str, tuple[str, str, str]] = field(default_factory=dict)


RECORDS = (
    Record(
        "harbour log",
        {"vessel": ("vessel", "the ship's name"), "berth": ("code", "where she lies"), "arrival": ("clock",
         "time of arrival"),
         "cargo": ("cargo", "what she carries"), "tonnes": ("many", "how many tonnes"), "pilot": ("person",
         "the pilot's name"),
         "tug": ("vessel", "name of the tug")},
        ("{arrival} – {vessel} alongside at {berth} with {tonnes} tonnes of {cargo}. Pilot was {pilot}.",
         "Pilot {pilot} brought in the {vessel} today. She made fast at berth {berth} at {arrival}; the holds contain "
         "{cargo}, {tonnes} t by the papers.",
         "VESSEL {vessel} / BERTH {berth} / IN {arrival} / LOAD {cargo} {tonnes} t / PILOT {pilot}"),
        {"tug": ("The tug {tug} assisted.", "Help came from the tug {tug}.")},
    ),
    Record(
        "hospital admission",
        {"patient": ("person", "the patient"), "age": ("percent", "age in years"), "ward": ("code", "the ward"),
         "physician": ("person", "the doctor in charge"), "temperature": ("warm", "temperature in °C"),
         "allergy": ("allergy", "what the patient is allergic to")},
        ("{patient}, {age} years old, came in through the emergency room and was taken to ward {ward}. "
         "Temperature on arrival: {temperature} °C. Responsible physician: {physician}.",
         "Dear colleague, thank you for taking over {patient} ({age} y) on {ward}. We measured {temperature} degrees. "
         "For questions ring the physician, {physician}.",
         "Ward {ward}. New patient: {patient}. Age: {age}. Temp.: {temperature}. Physician {physician} signed the "
         "form."),
        {"allergy": ("Known allergy: {allergy}.", "Careful, allergic to {allergy}!")},
        {"isolated": ("in isolation or not", "The patient is kept in isolation.", "No isolation is needed.")},
    ),
    Record(
        "hive card",
        {"hive": ("code", "the hive's number"), "apiary": ("place", "where the hive stands"), "keeper": ("person",
         "the keeper"),
         "frames": ("tally", "brood frames"), "honey_kg": ("decimal", "honey in kg"), "last_treated": ("date",
         "day of the last mite treatment")},
        ("Checked {hive} in {apiary} this morning. {frames} frames of brood, roughly {honey_kg} kg of honey in the "
         "super. – {keeper}",
         "{keeper} writes: colony {hive} ({apiary} apiary) is strong, I counted {frames} brood frames and took off "
         "{honey_kg} kilos of honey.",
         "Apiary {apiary}\nHive {hive}\nBrood frames {frames}\nHoney {honey_kg} kg\nKeeper {keeper}"),
        {"last_treated": ("Mites were last treated on {last_treated}.", "Against mites: treated {last_treated}.")},
        {"queen_seen": ("whether the queen was seen", "I saw the queen.", "I couldn't see the queen anywhere.")},
    ),
    Record(
        "find slip",
        {"object": ("find", "the object"), "trench": ("code", "the trench"), "depth_cm": ("many", "depth in cm"),
         "finder": ("person", "who found it"), "date": ("date", "day of the find"), "box": ("code",
         "number of the box")},
        ("On {date} {finder} uncovered a {object} in trench {trench}, {depth_cm} cm below the surface.",
         "{object}, trench {trench}, {depth_cm} cm deep. Found {date} by {finder}.",
         "The best piece of the week is a {object}. {finder} saw it first, on {date}, when cutting trench {trench} "
         "down to {depth_cm} cm."),
        {"box": ("It went into box {box}.", "Storage: box {box}.")},
        {"drawn": ("whether it has been drawn", "The drawing is done.", "It still has to be drawn.")},
    ),
    Record(
        "observing report",
        {"target": ("star", "what was observed"), "telescope": ("code", "the telescope"), "exposure_s": ("many",
         "exposure in seconds"),
         "observer": ("person", "the observer"), "seeing": ("small", "seeing in arc seconds"), "visitor": ("person",
         "the guest of the night")},
        ("{observer} pointed {telescope} at {target} and exposed for {exposure_s} s with a seeing of {seeing} arc "
         "seconds.",
         "Target {target}; instrument {telescope}; {exposure_s} seconds; seeing {seeing}\"; observer: {observer}",
         "A calm night, seeing {seeing} arc seconds. {target} was followed with {telescope}, one frame of {exposure_s} "
         "seconds. Notes by {observer}."),
        {"visitor": ("Our guest tonight was {visitor}.", "Visitor in the dome: {visitor}.")},
    ),
    Record(
        "brew sheet",
        {"beer": ("beer", "the beer"), "tank": ("code", "the tank"), "litres": ("many", "volume in litres"),
         "brewer": ("person", "the brewer"), "alcohol_percent": ("small", "alcohol in per cent"),
         "bottled_on": ("date", "day of bottling")},
        ("{brewer} put {litres} litres of {beer} into tank {tank}; it should end at {alcohol_percent} % alcohol.",
         "Tank {tank}: {beer}, {litres} l, {alcohol_percent} % vol. Brewed by {brewer}.",
         "Our new {beer} is maturing in {tank}. {brewer} made {litres} litres of it, and at {alcohol_percent} per "
         "cent it isn't a light one."),
        {"bottled_on": ("Bottled on {bottled_on}.", "It was filled into bottles on {bottled_on}.")},
        {"unfiltered": ("true if it's left unfiltered", "It's left unfiltered.", "It has been filtered.")},
    ),
    Record(
        "train incident",
        {"train": ("code", "the train"), "station": ("place", "where it happened"), "delay_minutes": ("tally",
         "delay in minutes"),
         "time": ("clock", "when it happened"), "driver": ("person", "the driver"), "replacement_bus": ("code",
         "number of the bus that replaced it")},
        ("At {time} train {train} came to a halt in {station} with a stuck door. {driver}, who drove it, reports a "
         "delay of {delay_minutes} minutes.",
         "{train} / {station} / {time} / +{delay_minutes} min / driver {driver}",
         "Driver {driver} called from {station} at {time}. A tree on the line cost {train} a whole {delay_minutes} "
         "minutes."),
        {"replacement_bus": ("Passengers went on by bus {replacement_bus}.", "Bus {replacement_bus} replaced it.")},
        {"injured": ("whether anybody was hurt", "Somebody was hurt.", "Nobody was hurt.")},
    ),
    Record(
        "volcano bulletin",
        {"volcano": ("place", "the volcano"), "tremors": ("many", "number of tremors"), "gas_ppm": ("decimal",
         "gas in ppm"),
         "on_duty": ("person", "who was on duty"), "date": ("date", "the bulletin's day"), "closed_path": ("code",
         "the path that is closed")},
        ("Bulletin of {date}: {tremors} tremors below {volcano}, gas at {gas_ppm} ppm. On duty: {on_duty}.",
         "{on_duty} was on duty on {date} and counted {tremors} tremors at {volcano}; the gas sensor read {gas_ppm} "
         "ppm.",
         "Mount {volcano} stays restless. The stations recorded {tremors} tremors and {gas_ppm} ppm of gas. "
         "({on_duty}, {date})"),
        {"closed_path": ("Path {closed_path} is closed.", "Keep off path {closed_path}, it's closed.")},
    ),
    Record(
        "concert notice",
        {"composer": ("composer", "whose music is played"), "soloist": ("person", "the soloist"),
         "instrument": ("instrument", "the soloist's instrument"),
         "date": ("date", "day of the concert"), "start": ("evening", "when it begins"), "price": ("small",
         "price of a ticket"),
         "conductor": ("person", "the conductor")},
        ("{soloist} ({instrument}) plays {composer} with us on {date} at {start}. Tickets: {price} euros.",
         "On {date} the hall belongs to {composer}. The {instrument} is in the hands of {soloist}. We begin at "
         "{start}, and admission is {price} euros.",
         "{date}, {start}. {composer}: Concerto for {instrument}. Soloist: {soloist}. Entry {price} EUR."),
        {"conductor": ("{conductor} conducts.", "At the desk: the conductor {conductor}.")},
    ),
    Record(
        "festival listing",
        {"film": ("film", "the title"), "director": ("person", "the director"), "minutes": ("many",
         "length in minutes"),
         "hall": ("code", "the hall"), "date": ("date", "day of the screening"), "jury": ("people",
         "the members of the jury")},
        ("\"{film}\" by {director}, {minutes} min, hall {hall}, {date}. The jury: {jury}.",
         "{director} shows \"{film}\" in hall {hall} on {date}. It runs for {minutes} minutes. {jury} sit on the jury.",
         "Don't miss it: on {date}, hall {hall} screens \"{film}\" ({minutes} minutes, directed by {director}). It "
         "will be judged by {jury}."),
    ),
    Record(
        "cellar book",
        {"grape": ("grape", "the grape"), "plot": ("code", "the plot"), "picked_on": ("date", "day of picking"),
         "oechsle": ("many", "sugar in Oechsle"), "winemaker": ("person", "the winemaker"), "barrel": ("code",
         "the barrel")},
        ("{grape} from {plot}, picked on {picked_on} with {oechsle} Oechsle. {winemaker} made the wine.",
         "We brought in the {grape} of plot {plot} on {picked_on}. {winemaker}, our winemaker, was happy with "
         "{oechsle} degrees Oechsle.",
         "Plot {plot} | {grape} | {picked_on} | {oechsle} °Oe | {winemaker}"),
        {"barrel": ("The must lies in barrel {barrel}.", "Barrel {barrel} was filled with it.")},
        {"organic": ("whether it's organic", "The plot is organic.", "This plot isn't organic.")},
    ),
    Record(
        "hut booking",
        {"hut": ("place", "the mountain hut"), "guest": ("person", "who books"), "beds": ("tally", "number of beds"),
         "arrival": ("date", "day of arrival"), "phone": ("phone", "phone number"), "guide": ("person",
         "the mountain guide")},
        ("Hello {hut} hut, this is {guest}. We need {beds} beds and arrive on {arrival}. My number is {phone}.",
         "Booking for {hut}: {beds} beds from {arrival}, name {guest}, phone {phone}.",
         "{guest} rang ({phone}) and would like {beds} places in the {hut} hut, coming up on {arrival}."),
        {"guide": ("{guide} will be guiding us.", "The guide is {guide}.")},
        {"dog": ("whether they bring a dog", "There will be a dog.", "There won't be a dog.")},
    ),
    Record(
        "rescue report",
        {"location": ("place", "where it was"), "alarm": ("clock", "time of the alarm"), "rescued": ("tally",
         "how many were brought down"),
         "team": ("people", "who went out"), "altitude_m": ("many", "altitude in metres"), "helicopter": ("code",
         "the helicopter's code")},
        ("Alarm at {alarm} from {location}, {altitude_m} m. {team} went out and brought down {rescued} hikers.",
         "{team} report from {location}: {rescued} people brought down from {altitude_m} metres, alarm received "
         "{alarm}.",
         "{alarm} alarm. Place: {location} ({altitude_m} m). Rescued: {rescued}. Team: {team}."),
        {"helicopter": ("Helicopter {helicopter} was in use.", "Flown by helicopter {helicopter}.")},
    ),
)  # fmt: skip

UNRELATED = (
    "The coffee machine is broken again.", "It rained for most of the day.", "More to follow by letter.",
    "Thanks to all who helped.", "The form must be kept for ten years.", "Please file this.",
    "As always, the keys hang behind the door.", "Written in haste.",
)  # fmt: skip
"""What stands around and belongs to no field."""
