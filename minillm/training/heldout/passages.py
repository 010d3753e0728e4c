"""Short sources for the held-out judge cases, what can be asked about them, and what they don't tell."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Passage:
    """A source with slots.

    Attributes:
        text: the source; {placeholders} are slots.
        slots: by name, a kind of `pools.KINDS`.
        asked: by slot, a question about it and answers in several wordings.
        untold: questions that it doesn't answer, each with an answer that somebody could invent.
        addition: a sentence that fits, but isn't in the source.
    """

    text: str
    slots: Mapping[str, str]
    asked: Mapping[str, tuple[str, Sequence[str]]]
    untold: Sequence[tuple[str, str]]
    addition: str


PASSAGES = (
    Passage(
        "The lighthouse of {town} was automated on {date}. Its last keeper, {keeper}, lived there for {years} years. "
        "Visitors may climb the tower from May to September.",
        {"town": "place", "date": "date", "keeper": "person", "years": "tally"},
        {"keeper": ("Who was the last keeper of the lighthouse?", ("{keeper}.", "The last keeper was {keeper}.")),
         "years": ("For how long did the last keeper live there?",
          ("{years} years.", "The keeper stayed for {years} years.")),
         "date": ("When was the lighthouse automated?", ("On {date}.", "It was automated on {date}."))},
        (("How tall is the tower?", "The tower is 41 metres tall."),
         ("What does it cost to climb the tower?", "It costs 6 euros.")),
        "Climbing the tower is free.",
    ),
    Passage(
        "Rules of the port: ships longer than {length} metres need a pilot, who is ordered from {pilot}. The harbour "
        "gate closes at {time}. Mooring lines are checked twice a day.",
        {"length": "many", "pilot": "person", "time": "evening"},
        {"length": ("From what length on does a ship need a pilot?",
          ("Above {length} metres.", "Ships over {length} m need one.")),
         "pilot": ("Who provides the pilot?", ("One orders the pilot from {pilot}.", "{pilot}.")),
         "time": ("When is the harbour gate shut?", ("At {time}.", "The gate closes at {time}."))},
        (("What is the fine for mooring without permission?", "The fine is 300 euros."),),
        "Small boats pay half of the fee.",
    ),
    Passage(
        "Ward {ward} has {beds} beds. It is led by {head}. Visitors are asked to leave by {time}, and flowers in "
        "pots are not allowed.",
        {"ward": "code", "beds": "tally", "head": "person", "time": "evening"},
        {"beds": ("How many beds are there on the ward?", ("{beds}.", "The ward has {beds} beds.")),
         "head": ("Who leads the ward?", ("{head} does.", "It's led by {head}.")),
         "time": ("By when do visitors have to go?", ("By {time}.", "They should leave by {time}."))},
        (("On which floor is the ward?", "It's on the third floor."),
         ("How many nurses work there?", "22 nurses work there.")),
        "Children under twelve may not visit.",
    ),
    Passage(
        "Before a blood test in the clinic you must not eat for {hours} hours; water is fine. Results are ready after "
        "{days} days and are explained by {doctor}.",
        {"hours": "tally", "days": "few", "doctor": "person"},
        {"hours": ("How long must I fast before the blood test?",
          ("{hours} hours.", "Don't eat for {hours} hours before it.")),
         "days": ("When do I get my results?", ("After {days} days.", "They're ready after {days} days.")),
         "doctor": ("Who explains the results?", ("{doctor} explains them.", "{doctor}."))},
        (("What does the blood test cost?", "The test costs 35 euros."),
         ("May I park at the clinic?", "Yes, behind the building.")),
        "The insurance pays for the test.",
    ),
    Passage(
        "The apiary at {place} was founded by {keeper} and holds {hives} colonies. Last year they gave {kilos} kg of "
        "honey, most of it heather.",
        {"place": "place", "keeper": "person", "hives": "tally", "kilos": "many"},
        {"keeper": ("Who founded the apiary?", ("{keeper} founded it.", "It was {keeper}.")),
         "hives": ("How many colonies live there?", ("{hives} colonies.", "There are {hives}.")),
         "kilos": ("How much honey was harvested last year?", ("{kilos} kg.", "They got {kilos} kilograms."))},
        (("What breed are the bees?", "They are Carniolan bees."), ("What does a jar cost?", "A jar is 9 euros.")),
        "The honey won a medal.",
    ),
    Passage(
        "Varroa treatment starts on {date}. Each hive gets {ml} ml of acid, given by {keeper}. The supers have to be "
        "taken off first.",
        {"date": "date", "ml": "many", "keeper": "person"},
        {"date": ("When does the treatment start?", ("On {date}.", "It begins on {date}.")),
         "ml": ("How much acid does each hive receive?", ("{ml} ml.", "Every hive gets {ml} ml.")),
         "keeper": ("Who gives the acid?", ("{keeper} does.", "It's given by {keeper}."))},
        (("How warm must it be for the treatment?", "At least 12 °C."),),
        "The treatment is repeated after a week.",
    ),
    Passage(
        "Object {number}, a {find}, was found by {finder} at a depth of {depth} cm. It is on show in the east "
        "gallery, and photographs are permitted.",
        {"number": "code", "find": "find", "finder": "person", "depth": "many"},
        {"find": ("What is object {number}?", ("A {find}.", "It's a {find}.")),
         "finder": ("Who found the object?", ("{finder}.", "It was found by {finder}.")),
         "depth": ("How deep did the object lie?", ("{depth} cm deep.", "It lay at a depth of {depth} cm."))},
        (("How old is the object?", "It is about 2,400 years old."), ("What is it insured for?", "For 80,000 euros.")),
        "It was restored last spring.",
    ),
    Passage(
        "The museum's dig at {site} ends on {date}. {count} volunteers take part, and {head} directs the work. Boots "
        "and gloves are lent out.",
        {"site": "place", "date": "date", "count": "tally", "head": "person"},
        {"site": ("Where is the museum digging?", ("At {site}.", "The dig is at {site}.")),
         "count": ("How many volunteers are there?", ("{count}.", "{count} volunteers take part.")),
         "head": ("Who directs the dig?", ("{head}.", "The work is directed by {head}.")),
         "date": ("When does the dig end?", ("On {date}.", "It ends on {date}."))},
        (("Who pays for the dig?", "The county pays for it."),),
        "The volunteers sleep in tents.",
    ),
    Passage(
        "Telescope {name} has a mirror of {cm} cm and came into service on {date}. Time on it is given out by "
        "{person}. The dome closes when the humidity is above {percent} %.",
        {"name": "code", "cm": "many", "date": "date", "person": "person", "percent": "percent"},
        {"cm": ("How large is the telescope's mirror?", ("{cm} cm.", "Its mirror measures {cm} cm.")),
         "person": ("Who decides about time on the telescope?", ("{person}.", "{person} gives it out.")),
         "percent": ("Above which humidity is the dome closed?",
          ("Above {percent} %.", "At more than {percent} % humidity."))},
        (("How heavy is the telescope?", "It weighs 12 tonnes."),
         ("Who built the telescope?", "A firm from Jena built it.")),
        "It can also be steered from home.",
    ),
    Passage(
        "On the night of {date} {observer} found a comet near {star}. It was {magnitude} magnitudes bright. The "
        "discovery was confirmed two nights later.",
        {"date": "date", "observer": "person", "star": "star", "magnitude": "small"},
        {"observer": ("Who found the comet?", ("{observer} did.", "It was found by {observer}.")),
         "star": ("Near what was the comet found?", ("Near {star}.", "It was close to {star}.")),
         "magnitude": ("How bright was the comet?",
          ("{magnitude} magnitudes.", "Its brightness was {magnitude} magnitudes."))},
        (("How long is the comet's period?", "It comes back every 71 years."),),
        "It could be seen with the naked eye.",
    ),
    Passage(
        "Our {beer} matures for {weeks} weeks in tank {tank} and has {alcohol} % alcohol. It was first brewed by "
        "{brewer}.",
        {"beer": "beer", "weeks": "few", "tank": "code", "alcohol": "small", "brewer": "person"},
        {"weeks": ("How long does the beer mature?", ("{weeks} weeks.", "It matures for {weeks} weeks.")),
         "alcohol": ("How strong is the beer?", ("It has {alcohol} % alcohol.", "{alcohol} %.")),
         "brewer": ("Who brewed the beer first?", ("{brewer}.", "{brewer} was the first to brew it.")),
         "tank": ("In which tank does it mature?", ("In tank {tank}.", "{tank}."))},
        (("Which hops are in the beer?", "Saaz hops are in it."), ("What does a bottle cost?", "It costs 2.80 euros.")),
        "It is sold in green bottles.",
    ),
    Passage(
        "Tours of the brewery begin at {time} and are led by {guide}. A group may have {people} people at most. "
        "Closed shoes are required.",
        {"time": "clock", "guide": "person", "people": "tally"},
        {"time": ("When do the tours begin?", ("At {time}.", "They start at {time}.")),
         "guide": ("Who leads the tours?", ("{guide}.", "They are led by {guide}.")),
         "people": ("How large may a group be?", ("{people} people at most.", "Up to {people} people."))},
        (("How long does a tour take?", "It takes 90 minutes."), ("What does a tour cost?", "A tour is 12 euros.")),
        "At the end everybody gets a free glass.",
    ),
    Passage(
        "The line from {start} to {end} is {km} km long and was opened on {date}. Trains need {minutes} minutes. "
        "Bicycles travel free of charge.",
        {"start": "place", "end": "place", "km": "many", "date": "date", "minutes": "tally"},
        {"km": ("How long is the line?", ("{km} km.", "The line is {km} kilometres long.")),
         "date": ("When was the line opened?", ("On {date}.", "It opened on {date}.")),
         "minutes": ("How many minutes do trains take?", ("{minutes} minutes.", "They need {minutes} minutes."))},
        (("How many tunnels has the line?", "It has nine tunnels."), ("Is the line electric?", "Yes, it's electric.")),
        "Dogs need a ticket.",
    ),
    Passage(
        "Seats in the night train {train} can be reserved up to {days} days ahead. The dining car closes at {time}. "
        "Complaints go to {person}.",
        {"train": "code", "days": "tally", "time": "evening", "person": "person"},
        {"days": ("How early can I reserve a seat?", ("Up to {days} days ahead.", "{days} days ahead at most.")),
         "time": ("Until when can I eat in the dining car?", ("Until {time}.", "It closes at {time}.")),
         "person": ("To whom do I address a complaint?", ("To {person}.", "Complaints go to {person}."))},
        (("Are there showers on the train?", "Yes, in the first carriage."),),
        "Breakfast is included.",
    ),
    Passage(
        "{volcano} last erupted on {date}. The crater is {metres} metres wide and is watched by {person} from the "
        "observatory. The northern path is closed.",
        {"volcano": "place", "date": "date", "metres": "many", "person": "person"},
        {"date": ("When was the last eruption?", ("On {date}.", "It last erupted on {date}.")),
         "metres": ("How wide is the crater?", ("{metres} metres.", "The crater is {metres} m wide.")),
         "person": ("Who watches the crater?", ("{person}.", "It's watched by {person}."))},
        (("How high is the volcano?", "It is 2,950 metres high."),
         ("How many people live near it?", "About 4,000 people.")),
        "The southern path is open in summer.",
    ),
    Passage(
        "Station {station} measures {ppm} ppm of gas. If the value exceeds {limit} ppm, the alert goes to orange and "
        "{person} informs the villages.",
        {"station": "code", "ppm": "decimal", "limit": "many", "person": "person"},
        {"ppm": ("How much gas does the station measure?", ("{ppm} ppm.", "It measures {ppm} ppm.")),
         "limit": ("Above what value is the alert orange?",
          ("Above {limit} ppm.", "When more than {limit} ppm are measured.")),
         "person": ("Who informs the villages?", ("{person} does.", "{person}."))},
        (("How often does the station measure?", "Every five minutes."),),
        "A siren sounds as well.",
    ),
    Passage(
        "The orchestra rehearses {composer} on {date} from {time}. The solo is played by {soloist}. Latecomers wait "
        "in the foyer.",
        {"composer": "composer", "date": "date", "time": "clock", "soloist": "person"},
        {"composer": ("Whose music is rehearsed?", ("{composer}'s.", "They rehearse {composer}.")),
         "time": ("When does the rehearsal start?", ("At {time}.", "It starts at {time}.")),
         "soloist": ("Who plays the solo?", ("{soloist}.", "The solo is played by {soloist}."))},
        (("How long does the rehearsal take?", "It takes three hours."), ("Who conducts?", "Sir Alan Trew conducts.")),
        "Coffee is served in the break.",
    ),
    Passage(
        "The {instrument} in case {case} belongs to {owner}. It was made in {town} and is lent to students for "
        "{months} months.",
        {"instrument": "instrument", "case": "code", "owner": "person", "town": "place", "months": "few"},
        {"owner": ("Whose instrument is it?", ("It belongs to {owner}.", "{owner}'s.")),
         "town": ("Where was the instrument made?", ("In {town}.", "It was made in {town}.")),
         "months": ("For how long can students borrow it?", ("For {months} months.", "{months} months."))},
        (("What is the instrument worth?", "It's worth 7,000 euros."),
         ("Who made the instrument?", "Hans Oberle made it.")),
        "It was repaired twice.",
    ),
    Passage(
        "\"{film}\" by {director} opens the festival on {date}. It is {minutes} minutes long and shown with subtitles.",
        {"film": "film", "director": "person", "date": "date", "minutes": "many"},
        {"film": ("Which film opens the festival?", ("\"{film}\".", "The festival opens with \"{film}\".")),
         "director": ("Who made the opening film?", ("{director}.", "It's by {director}.")),
         "minutes": ("How long is the opening film?", ("{minutes} minutes.", "It runs for {minutes} minutes."))},
        (("Who plays the leading part?", "Mara Quist plays the lead."),
         ("What did the film cost?", "It cost 2 million euros.")),
        "The director will be there in person.",
    ),
    Passage(
        "The jury is headed by {head} and sees {films} films. The winner gets {sum} euros, handed over by {sponsor}.",
        {"head": "person", "films": "tally", "sum": "many", "sponsor": "person"},
        {"head": ("Who heads the jury?", ("{head}.", "The jury is headed by {head}.")),
         "films": ("How many films does the jury watch?", ("{films}.", "It sees {films} films.")),
         "sum": ("How much money does the winner get?", ("{sum} euros.", "The winner gets {sum} euros.")),
         "sponsor": ("Who hands over the prize?", ("{sponsor}.", "It's handed over by {sponsor}."))},
        (("In which city is the prize given?", "In Turin."),),
        "There is also a prize of the audience.",
    ),
    Passage(
        "Plot {plot} is planted with {grape} on {rows} rows. {maker} picks it by hand. The wine stays in wood for "
        "{months} months.",
        {"plot": "code", "grape": "grape", "rows": "tally", "maker": "person", "months": "few"},
        {"grape": ("Which grape grows on plot {plot}?", ("{grape}.", "{grape} grows there.")),
         "rows": ("How many rows has the plot?", ("{rows}.", "It has {rows} rows.")),
         "maker": ("Who picks the grapes?", ("{maker}.", "{maker} picks them.")),
         "months": ("How long is the wine in wood?", ("{months} months.", "For {months} months."))},
        (("How steep is the plot?", "It slopes at 30 degrees."), ("What does the wine cost?", "A bottle is 18 euros.")),
        "The plot is farmed organically.",
    ),
    Passage(
        "The {hut} hut lies at {metres} metres and has {beds} beds. {warden} runs it. Supper is at {time}; dogs "
        "sleep outside.",
        {"hut": "place", "metres": "many", "beds": "tally", "warden": "person", "time": "evening"},
        {"metres": ("How high up is the hut?", ("At {metres} metres.", "It lies at {metres} m.")),
         "beds": ("How many beds does the hut have?", ("{beds}.", "It has {beds} beds.")),
         "warden": ("Who runs the hut?", ("{warden}.", "It's run by {warden}.")),
         "time": ("When is supper served?", ("At {time}.", "Supper is at {time}."))},
        (("When was the hut built?", "It was built in 1927."), ("Does the hut have showers?", "Yes, hot ones.")),
        "Cards are accepted.",
    ),
    Passage(
        "On {date} {leader} and a team of {count} rescued a climber below {peak}. The rescue began at {time} and "
        "ended before dark.",
        {"date": "date", "leader": "person", "count": "few", "peak": "place", "time": "clock"},
        {"leader": ("Who led the rescue?", ("{leader}.", "It was led by {leader}.")),
         "peak": ("Where was the climber rescued?", ("Below {peak}.", "The climber was found below {peak}.")),
         "time": ("When did the rescue begin?", ("At {time}.", "It began at {time}."))},
        (("How badly was the climber hurt?", "He had broken a leg."), ("How old was the climber?", "29 years.")),
        "A helicopter was used.",
    ),
)  # fmt: skip
