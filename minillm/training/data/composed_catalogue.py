"""Functions that an assistant may be given: what they do, what they take, and how people ask for them.

Some are written by hand. Most are put together from a verb and a thing, so that there are more of them than a model can
learn by heart: what helps is to compare the words of a request with those of a description.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from minillm.training.data import values

Draw = random.Random


@dataclass(frozen=True)
class Parameter:
    """One argument of a function.

    Attributes:
        name: in snake_case.
        schema: JSON Schema of it, with or without a description.
        value: draws one.
        phrase: how a request mentions it where it's optional, such as " in {v}"; "" for one that is required.
        words: how people say some of the values.
        is_optional: whether a request may leave it out; those with a phrase are so as well.
    """

    name: str
    schema: dict[str, Any]
    value: Callable[[Draw], Any]
    phrase: str = ""
    words: Mapping[str, str] = field(default_factory=dict)
    is_optional: bool = False


@dataclass(frozen=True)
class Function:
    """A function, and what is said around it.

    Attributes:
        words: of its name, such as ("get", "weather").
        descriptions: each says what it does.
        parameters: in order. A dot in a name makes an object: "guest.name" is the name in the object "guest".
        asks: requests that it fits, with {parameter} for values; {parameter?this:that} depends on a yes or no, and what
            stands in [] may be left out, together with the parameters in it.
        results: pairs of what it may return and the answer to the user that follows from it; {r} is a value that only
            the result tells.
        family: functions of one family are each other's near misses.
        verb: that it was composed with; None for one that was written by hand.
        fields: what it returns, where that isn't said by `results`.
        answers: what can be said of the fields, with {field} and {parameter}.
    """

    words: tuple[str, ...]
    descriptions: tuple[str, ...]
    parameters: tuple[Parameter, ...]
    asks: tuple[str, ...]
    results: tuple[tuple[str, str], ...]
    family: str
    verb: Verb | None = None
    fields: tuple[Parameter, ...] = ()
    answers: tuple[str, ...] = ()


def _text(name: str, value: Callable[[Draw], Any], about: str = "", phrase: str = "") -> Parameter:
    return Parameter(name, {"type": "string"} | ({"description": about} if about else {}), value, phrase)


def _whole(name: str, low: int, high: int, about: str = "", phrase: str = "") -> Parameter:
    schema = {"type": "integer"} | ({"description": about} if about else {})
    return Parameter(name, schema, lambda draw: draw.randint(low, high), phrase)


def _decimal(name: str, low: int, high: int, about: str = "") -> Parameter:
    schema = {"type": "number"} | ({"description": about} if about else {})
    return Parameter(name, schema, lambda draw: round(draw.uniform(low, high), draw.choice([0, 1, 2])))


def _one_of(name: str, *choices: str, about: str = "", phrase: str = "") -> Parameter:
    schema = {"type": "string", "enum": list(choices)} | ({"description": about} if about else {})
    return Parameter(name, schema, lambda draw: draw.choice(choices), phrase)


def _several(name: str, value: Callable[[Draw], str], about: str = "") -> Parameter:
    schema = {"type": "array", "items": {"type": "string"}} | ({"description": about} if about else {})
    return Parameter(name, schema, lambda draw: [value(draw) for _ in range(draw.randint(2, 3))])


def _title(draw: Draw) -> str:
    return draw.choice(
        ["Call {p}", "Budget {n}", "Trip to {t}", "{t} review", "Buy {c} paint", "Plan for {t}", "Dinner with {p}", "Fix the {c} door", "{p}'s birthday",
         "Order {n} chairs", "Letter to {p}", "Meeting in {t}", "Renew the {t} contract", "Questions for {p}"]
    ).format(p=draw.choice(values.FIRST_NAMES), n=draw.randint(2, 2000), t=values.place(draw), c=draw.choice(values.COLOURS))  # fmt: skip


def _sentence(draw: Draw) -> str:
    return draw.choice(
        ["I will be {n} minutes late", "the keys are in the {c} box", "we meet in {t}", "please send the {c} folder", "lunch is on {p}",
         "the {c} team won", "the train to {t} is full", "room {n} is free", "thanks for the {c} flowers", "{p} said yes"]
    ).format(n=draw.randint(2, 90), c=draw.choice(values.COLOURS), t=values.place(draw), p=draw.choice(values.FIRST_NAMES))  # fmt: skip


def _words(draw: Draw) -> str:
    return draw.choice(
        ["{c} bicycles", "cheap {m} tables", "history of {t}", "{t} bus times", "how to repair a {m} chair", "second-hand {c} coats", "letters by {p}",
         "jobs in {t}", "{m} bowls", "recipes with {i}", "{i} soup", "flats near {t}"]
    ).format(c=draw.choice(values.COLOURS), m=draw.choice(values.MATERIALS), t=values.place(draw), p=values.person(draw),
             i=draw.choice(["lentils", "pumpkin", "rice", "beans", "spinach", "mushrooms", "barley", "cabbage"]))  # fmt: skip


def _file(draw: Draw) -> str:
    stem = draw.choice(["report", "notes", "photo", "invoice", "draft", "plan", "song", values.place(draw).lower()])
    return f"{stem}{draw.choice(['', '-' + str(draw.randint(1, 99)), '_final'])}.{draw.choice(['txt', 'pdf', 'md', 'csv', 'png', 'docx'])}"


def _town(draw: Draw) -> str:
    if draw.random() < 0.5:
        return values.place(draw)
    return draw.choice(
        "Paris Lisbon Oslo Nairobi Lima Kyoto Toronto Cairo Dublin Madrid Vienna Prague Seoul Boston Bogota Hanoi Rome Ghent Turin Bergen".split()
    )


def _first_name(draw: Draw) -> str:
    return draw.choice(values.FIRST_NAMES)


def _id(draw: Draw) -> str:
    return draw.choice(
        [values.code(draw).replace(" ", "-"), str(draw.randint(1000, 99999)), f"#{draw.randint(10, 9999)}"]
    )


_ROOM = ("kitchen", "bedroom", "hallway", "cellar", "living room", "garage", "bathroom", "office", "attic", "nursery")
_LANGUAGES = (
    "French German Spanish Italian Polish Turkish Dutch Swedish Greek Arabic Hindi Korean Finnish Portuguese".split()
)
_CURRENCIES = ("EUR", "USD", "GBP", "CHF", "JPY", "SEK", "PLN", "CAD", "INR", "BRL")

BY_HAND: tuple[Function, ...] = (
    Function(("get", "weather"), ("Get the current weather of a city.", "Current temperature and conditions at a place.", "Look up what the weather is like."),
        (_text("city", _town, "Name of the city"), _one_of("unit", "celsius", "fahrenheit", phrase=", in {v}")),
        ("What's the weather in {city}?", "Is it cold in {city} right now?", "Do I need an umbrella in {city}?", "How warm is it in {city}?", "weather {city} please", "I'm about to leave for {city}. What is it like outside there?"),
        (('{{"temperature": {r}, "sky": "cloudy"}}', "It's {r} degrees and cloudy."), ("{r} degrees, light rain", "Take an umbrella: {r} degrees and light rain.")), "weather"),
    Function(("get", "forecast"), ("Weather forecast for the next days.", "Predict the weather of a city for several days."),
        (_text("city", _town), _whole("days", 2, 10, "How many days ahead")),
        ("What will the weather be in {city} over the next {days} days?", "Forecast for {city}, {days} days.", "Will it rain in {city} in the coming {days} days?"),
        (('{{"rainy_days": {r}}}', "Rain is expected on {r} days."),), "weather"),
    Function(("calculate",), ("Evaluate an arithmetic expression.", "Do exact arithmetic.", "A calculator."),
        (_text("expression", lambda d: f"{d.randint(2, 999)} {d.choice('+-*/')} {d.randint(2, 99)}", "Such as 2 * 3"),),
        ("What is {expression}?", "Calculate {expression}.", "Can you work out {expression} for me?", "{expression} = ?", "How much is {expression}?"),
        (("{r}", "It's {r}."), ('{{"result": {r}}}', "The result is {r}.")), "numbers"),
    Function(("convert", "currency"), ("Convert an amount of money into another currency.", "Exchange rates: how much an amount is in another currency."),
        (_decimal("amount", 5, 900), _one_of("from_currency", *_CURRENCIES), _one_of("to_currency", *_CURRENCIES)),
        ("How much is {amount} {from_currency} in {to_currency}?", "Convert {amount} {from_currency} to {to_currency}.", "I have {amount} {from_currency}; what do I get in {to_currency}?"),
        (('{{"amount": {r}}}', "That is {r}."),), "numbers"),
    Function(("convert", "units"), ("Convert a measurement between units.", "Turn kilometres into miles, kilograms into pounds and so on."),
        (_decimal("value", 1, 500), _one_of("from_unit", "km", "miles", "kg", "pounds", "litres", "gallons", "cm", "inches"), _one_of("to_unit", "km", "miles", "kg", "pounds", "litres", "gallons", "cm", "inches")),
        ("How many {to_unit} are {value} {from_unit}?", "{value} {from_unit} in {to_unit}, please.", "Convert {value} {from_unit} to {to_unit}."),
        (("{r}", "That's {r}."),), "numbers"),
    Function(("translate", "text"), ("Translate a text into another language.", "Say something in a foreign language."),
        (_text("text", _sentence), _one_of("target_language", *_LANGUAGES)),
        ("How do you say “{text}” in {target_language}?", "Translate “{text}” into {target_language}.", "I need “{text}” in {target_language}."),
        (('{{"translation": "xa {r} vo"}}', "The translation is: xa {r} vo"),), "language"),
    Function(("send", "email"), ("Send an email.", "Write to somebody by email.", "Mail a message to an address."),
        (_text("to", values.email, "Address"), _text("subject", _title), _text("body", _sentence, phrase=" Write: {v}")),
        ("Send a mail to {to} with the subject “{subject}”.", "Email {to}, subject {subject}.", "Please write to {to} about “{subject}”."),
        (('{{"status": "sent", "id": {r}}}', "The mail was sent (number {r})."),), "messages"),
    Function(("send", "message"), ("Send a text message to a contact.", "Message somebody in the chat.", "Text a person."),
        (_text("recipient", _first_name), _text("text", _sentence)),
        ("Tell {recipient} that {text}.", "Text {recipient}: {text}", "Let {recipient} know: {text}.", "Message {recipient} saying {text}"),
        (("delivered at {r}", "Your message was delivered at {r}."),), "messages"),
    Function(("set", "timer"), ("Start a countdown timer.", "Count down some minutes and then ring."),
        (_whole("minutes", 1, 120), _text("label", lambda d: d.choice(["tea", "pasta", "laundry", "bread", "break", "call"]), phrase=" for the {v}")),
        ("Set a timer for {minutes} minutes.", "Wake me in {minutes} minutes.", "Start a {minutes} minute countdown.", "Remind me when {minutes} minutes are over."),
        (('{{"timer": {r}}}', "Timer {r} is running."),), "time"),
    Function(("set", "alarm"), ("Set an alarm at a time of day.", "Ring at a given time."),
        (_text("time", lambda d: f"{d.randint(4, 11):02d}:{d.choice(['00', '15', '30', '45'])}", "HH:MM"),),
        ("Wake me at {time}.", "Set the alarm to {time}.", "I have to get up at {time}.", "alarm {time} please"),
        (("ok, alarm {r}", "The alarm (number {r}) is set."),), "time"),
    Function(("get", "time"), ("Current local time of a place.", "What time it is somewhere."),
        (_text("location", _town),), ("What time is it in {location}?", "How late is it in {location} now?", "Tell me the local time of {location}."),
        (('{{"time": "{r}:15"}}', "It's {r}:15 there."),), "time"),
    Function(("create", "event"), ("Add an event to the calendar.", "Put an appointment into the calendar."),
        (_text("title", _title), _text("date", values.iso_date, "YYYY-MM-DD"), _text("time", lambda d: f"{d.randint(7, 20)}:{d.choice(['00', '30'])}", phrase=" at {v}")),
        ("Put “{title}” into my calendar for {date}", "Schedule {title} on {date}", "Add an appointment on {date}, called {title}"),
        (('{{"event_id": {r}}}', "It's in your calendar, as event {r}."),), "calendar"),
    Function(("list", "events"), ("List the calendar's events of a day.", "Show what is planned on a date."),
        (_text("date", values.iso_date, "YYYY-MM-DD"),), ("What's on my calendar on {date}?", "Am I free on {date}?", "Show me my appointments of {date}.", "What do I have planned for {date}?"),
        (('["Lunch {r}", "Dentist"]', "You have Lunch {r} and Dentist."), ("[]", "Nothing is planned on that day.")), "calendar"),
    Function(("search", "web"), ("Search the web.", "Find pages on the internet.", "Look something up online."),
        (_text("query", _words),), ("Search the web for {query}.", "Look up {query} online.", "Find me something about {query} on the internet.", "google {query}"),
        (('[{{"title": "Page {r}"}}]', "The best hit is “Page {r}”."),), "search"),
    Function(("search", "files"), ("Find files whose content matches some words.", "Search my documents."),
        (_text("query", _words), _whole("limit", 1, 20, "Most results", phrase=", at most {v} of them")),
        ("Which of my files mention {query}", "Find documents about {query}", "Look through my files for {query}"),
        (('["{r}.txt"]', "I found one file: {r}.txt"),), "files"),
    Function(("read", "file"), ("Read a file's content.", "Open a text file and return what is in it."),
        (_text("path", _file),), ("What's in {path}?", "Open {path} for me.", "Read {path} aloud.", "Show the content of {path}."),
        (("Remember: {r} chairs.", "The file says: Remember: {r} chairs."),), "files"),
    Function(("delete", "file"), ("Delete a file for good.", "Remove a file from the disk."),
        (_text("path", _file),), ("Delete {path}.", "I don't need {path} any more. Remove it.", "Get rid of {path}, please."),
        (("ok ({r} bytes freed)", "The file is deleted; {r} bytes are free now."),), "files"),
    Function(("rename", "file"), ("Rename a file.", "Give a file another name."),
        (_text("old_name", _file), _text("new_name", _file)), ("Rename {old_name} to {new_name}.", "{old_name} should be called {new_name}.", "Change the name of {old_name} to {new_name}."),
        (("ok", "The file has its new name."),), "files"),
    Function(("set", "temperature"), ("Set a room's temperature.", "Control the heating of a room.", "Thermostat: sets the target in degrees Celsius."),
        (_one_of("room", *_ROOM), _whole("degrees", 15, 26)),
        ("Make it {degrees} degrees in the {room}.", "I'm freezing, heat the {room} to {degrees}.", "Set the {room} to {degrees} °C.", "{room}: {degrees} degrees please"),
        (('{{"now": {r}}}', "Done. It's {r} degrees at the moment."),), "home"),
    Function(("switch", "light"), ("Turn a light on or off.", "Control the lamps of a room."),
        (_one_of("room", *_ROOM), _one_of("state", "on", "off")),
        ("Turn {state} the light in the {room}.", "Lights {state} in the {room}.", "Switch the lamp in the {room} {state}."),
        (("ok", "Done."),), "home"),
    Function(("lock", "door"), ("Lock a door.", "Make sure that a door is locked."),
        (_one_of("door", "front", "back", "garage", "balcony", "cellar"),), ("Lock the {door} door.", "Did I forget the {door} door? Please lock it.", "Make sure nobody comes in through the {door} door."),
        (("locked", "The door is locked."),), "home"),
    Function(("play", "music"), ("Play a song, an album or an artist.", "Start music."),
        (_text("what", lambda d: d.choice(["Bach", "Miles Davis", "Blue Monday", "some jazz", "whale songs", "Nina Simone", "lo-fi beats", "Mozart's Requiem"])), _one_of("speaker", *_ROOM, phrase=" in the {v}")),
        ("Play {what}", "I'd like to hear {what}", "Put on {what}"),
        (("playing (track {r})", "It's playing, track {r}."),), "home"),
    Function(("find", "route"), ("Find the way between two places.", "Directions from one place to another."),
        (_text("origin", _town), _text("destination", _town), _one_of("mode", "car", "bike", "foot", "train", phrase=" by {v}")),
        ("How do I get from {origin} to {destination}", "Route from {origin} to {destination}", "I have to travel from {origin} to {destination}"),
        (('{{"minutes": {r}}}', "It takes {r} minutes."),), "travel"),
    Function(("book", "table"), ("Reserve a table in a restaurant.", "Make a restaurant booking."),
        (_text("restaurant", lambda d: "Chez " + values.person(d).split()[0]), _whole("people", 2, 12), _text("time", lambda d: f"{d.randint(17, 22)}:{d.choice(['00', '30'])}")),
        ("Book a table for {people} at {restaurant} at {time}.", "Reserve {restaurant} for {people} people, {time}.", "We are {people} and want to eat at {restaurant} at {time}."),
        (('{{"booking": "B{r}"}}', "Your table is booked, number B{r}."),), "travel"),
    Function(("get", "stock", "price"), ("Current price of a share.", "Look up a stock by its ticker symbol."),
        (_text("symbol", lambda d: "".join(d.choices("ABCDEFGKLMNOPRSTVX", k=d.randint(3, 4)))),), ("What is {symbol} trading at?", "Price of {symbol}?", "How is the share {symbol} doing?"),
        (('{{"price": {r}}}', "It stands at {r}."),), "numbers"),
    Function(("roll", "dice"), ("Roll dice and return their sum.", "Throw some dice."),
        (_whole("count", 1, 6), _whole("sides", 4, 20)), ("Roll {count} dice with {sides} sides.", "Throw {count} {sides}-sided dice for me."),
        (("{r}", "You rolled {r}."),), "numbers"),
    Function(("run", "query"), ("Run a SQL query on the database.", "Query the sales database with SQL."),
        (_text("sql", lambda d: f"SELECT {d.choice(['name', 'count(*)', 'total', '*'])} FROM {d.choice(['orders', 'users', 'items', 'visits'])} WHERE id = {d.randint(1, 999)}"),),
        ("Run this on the database: {sql}", "Execute {sql}", "What does {sql} return?"),
        (("[[{r}]]", "The query returns {r}."),), "data"),
    Function(("git", "commit"), ("Commit the staged changes.", "Record changes in the repository."),
        (_text("message", _title),), ("Commit with the message “{message}”.", "Commit my changes: {message}", "Save the staged work as “{message}”."),
        (("[main a{r}] ok", "Committed as a{r}."),), "code"),
    Function(("run", "tests"), ("Run the test suite.", "Execute a project's tests."),
        (_text("path", lambda d: "tests/" + d.choice(["unit", "api", "ui", values.place(d).lower()])),), ("Run the tests in {path}.", "Do the tests in {path} pass?", "Check {path} for failing tests."),
        (("{r} passed", "All {r} tests pass."), ("1 failed, {r} passed", "One test fails, {r} pass.")), "code"),
    Function(("tag", "photo"), ("Attach tags to a photo.", "Label a picture with key words."),
        (_text("photo", lambda d: f"IMG_{d.randint(100, 9999)}.jpg"), _several("tags", lambda d: d.choice(values.COLOURS + values.MATERIALS + ["sea", "family", "snow", "dog"]))),
        ("Tag {photo} with {tags}.", "Add the tags {tags} to {photo}.", "Label {photo}: {tags}"),
        (("ok", "The photo has its tags."),), "media"),
    Function(("invite", "people"), ("Invite people to a meeting.", "Send invitations for a meeting."),
        (_text("meeting", _title), _several("names", _first_name)),
        ("Invite {names} to “{meeting}”.", "{names} should come to {meeting}; invite them.", "Send invitations for “{meeting}” to {names}."),
        (("{r} invitations sent", "{r} invitations were sent."),), "calendar"),
)  # fmt: skip

THINGS: tuple[str, ...] = tuple(
    "invoice ticket order customer booking contract parcel note task recipe playlist account report backup branch page coupon "
    "subscription shipment survey course lesson exam payment refund vehicle sensor plant room desk badge permit article comment "
    "poll bug ticket_type webhook deployment container server certificate domain campaign newsletter voucher loan book album "
    "route stop parking_spot locker machine filter battery meter pet team player match season donation volunteer event_type "
    "supplier warehouse product price_list discount wishlist cart folder template signature form".split()
)
"""What a composed function may be about."""


@dataclass(frozen=True)
class Verb:
    """What can be done with a thing; {o} is the thing, {os} several of them."""

    words: tuple[str, ...]
    descriptions: tuple[str, ...]
    parameters: tuple[Parameter, ...]
    asks: tuple[str, ...]
    results: tuple[tuple[str, str], ...]


def _number(name: str = "{o}_id") -> Parameter:
    return _text(name, _id)


VERBS: tuple[Verb, ...] = (
    Verb(("get", "fetch", "show", "lookup"), ("Get the details of one {o} by its number.", "Look up a single {o}.", "Returns what is known about a {o}."), (_number(),),
        ("What do we know about {o} {id}?", "Show me {o} {id}.", "Look up the {o} with the number {id}.", "I need the details of {o} {id}.", "{o} {id}: what is it about?"),
        (('{{"name": "N{r}", "open": true}}', "It's called N{r} and is open."), ("N{r}, since March", "It's N{r}, since March."))),
    Verb(("list", "list_all", "browse"), ("List all {os}.", "Shows the {os} that there are.", "Overview of every {o}."), (_whole("limit", 2, 50, phrase=", at most {v}"),),
        ("Which {os} are there", "List all my {os}", "Give me an overview of the {os}", "Show the {os}"),
        (('["A{r}", "B{r}"]', "There are two: A{r} and B{r}."),)),
    Verb(("create", "add", "new", "register"), ("Create a new {o}.", "Adds a {o} with the given name.", "Registers a further {o}."), (_text("name", _title), _one_of("priority", "low", "normal", "high", phrase=", with {v} priority")),
        ("Create a {o} called “{name}”", "I need a new {o} named {name}", "Please add another {o}: {name}", "Make a {o} with the name “{name}”"),
        (('{{"id": {r}}}', "It was created with the number {r}."),)),
    Verb(("delete", "remove", "erase"), ("Delete a {o} for good.", "Removes the {o}.", "Erase a {o}; can't be undone."), (_number(),),
        ("Delete {o} {id}.", "{o} {id} can go. Remove it.", "We don't need {o} {id} any more.", "Erase the {o} {id}, please."),
        (("ok", "It's gone."), ('{{"deleted": "X{r}"}}', "X{r} was deleted."))),
    Verb(("cancel", "call_off", "revoke"), ("Cancel a {o}.", "Calls a {o} off, with an optional reason.", "Withdraws a {o} that isn't done yet."), (_number(), _text("reason", lambda d: d.choice(["too late", "moved away", "ordered twice", "ill", "too expensive"]), phrase=", because: {v}")),
        ("Cancel {o} {id}", "I changed my mind about {o} {id}, call it off", "Please withdraw the {o} {id}"),
        (('{{"cancelled": true, "refund": {r}}}', "It's cancelled, and you get {r} back."),)),
    Verb(("update", "rename", "edit"), ("Change the name of a {o}.", "Edits a {o}: gives it another name."), (_number(), _text("new_name", _title)),
        ("Rename {o} {id} to “{new_name}”.", "{o} {id} should be called {new_name} from now on.", "Change the name of the {o} {id} into {new_name}."),
        (("ok", "The name is changed."),)),
    Verb(("assign", "hand_over"), ("Assign a {o} to a person.", "Makes somebody responsible for a {o}."), (_number(), _text("person", _first_name)),
        ("Give {o} {id} to {person}.", "{person} should take care of {o} {id}.", "Assign the {o} {id} to {person}.", "Make {person} responsible for {o} {id}."),
        (("ok, {r} open", "It's assigned; {r} are open there."),)),
    Verb(("count", "number_of"), ("Count the {os}.", "How many {os} there are."), (_one_of("status", "open", "closed", "overdue"),),
        ("How many {status} {os} do we have?", "Count the {status} {os}.", "What's the number of {status} {os}?"),
        (("{r}", "There are {r}."), ('{{"count": {r}}}', "We have {r}."))),
    Verb(("search", "find"), ("Search {os} by words.", "Finds {os} that match a text."), (_text("query", _words),),
        ("Find {os} about {query}.", "Is there a {o} about {query}?", "Search the {os} for “{query}”."),
        (('["H{r}"]', "One matches: H{r}."), ("[]", "Nothing matches."))),
    Verb(("export", "download"), ("Export {os} to a file.", "Writes all {os} into a file of a given format."), (_one_of("format", "csv", "pdf", "json", "xlsx"),),
        ("Export the {os} as {format}.", "I need all {os} in a {format} file.", "Download the {os}, format {format}."),
        (("export-{r}.zip", "The file is export-{r}.zip."),)),
    Verb(("archive", "put_away"), ("Archive a {o} without deleting it.", "Moves a {o} into the archive."), (_number(),),
        ("Move {o} {id} into the archive.", "Archive {o} {id}.", "Put {o} {id} away, but keep it."),
        (("ok", "It's in the archive."),)),
    Verb(("approve", "confirm", "accept"), ("Approve a {o}.", "Confirms a {o} that waits for a decision."), (_number(),),
        ("Approve {o} {id}.", "{o} {id} looks good, confirm it.", "Yes to {o} {id}: accept it."),
        (("approved by U{r}", "It's approved (by U{r})."),)),
    Verb(("share", "send"), ("Share a {o} with somebody by email.", "Sends a {o} to an address."), (_number(), _text("email", values.email)),
        ("Share {o} {id} with {email}.", "Send the {o} {id} to {email}.", "{email} needs to see {o} {id}."),
        (("ok", "It was sent."),)),
    Verb(("schedule", "plan"), ("Set the date of a {o}.", "Plans a {o} for a day."), (_number(), _text("date", values.iso_date, "YYYY-MM-DD")),
        ("Plan {o} {id} for {date}.", "Move {o} {id} to {date}.", "{o} {id} should happen on {date}."),
        (("ok, slot {r}", "It's planned, in slot {r}."),)),
    Verb(("set_price", "price"), ("Set what a {o} costs.", "Changes the price of a {o}."), (_number(), _decimal("amount", 2, 400)),
        ("{o} {id} should cost {amount}.", "Set the price of {o} {id} to {amount}.", "Make the {o} {id} cost {amount} from now on."),
        (("ok", "The new price is set."),)),
    Verb(("status_of", "check", "track"), ("Check the status of a {o}.", "Where a {o} stands at the moment."), (_number(),),
        ("Where does {o} {id} stand?", "What's the status of {o} {id}?", "Is {o} {id} done already?", "Any news on {o} {id}?"),
        (('{{"status": "waiting", "position": {r}}}', "It's waiting, at position {r}."), ("done on day {r}", "It was done on day {r}."))),
    Verb(("subscribe", "watch", "follow"), ("Get notified when a {o} changes.", "Watches a {o} and reports changes."), (_number(), _one_of("channel", "email", "sms", "push")),
        ("Tell me by {channel} when {o} {id} changes.", "Watch {o} {id} and notify me by {channel}.", "Follow {o} {id} ({channel})."),
        (("ok", "You will be notified."),)),
    Verb(("enable", "activate", "switch_on"), ("Switch a {o} on or off.", "Activates or deactivates a {o}."), (_number(), Parameter("active", {"type": "boolean"}, lambda d: d.random() < 0.5)),
        ("Switch {o} {id} {active?on:off}.", "{active?Activate:Deactivate} {o} {id}.", "{o} {id} should {active?be active again:rest for now}."),
        (("ok", "Done."),)),
)  # fmt: skip


_MORE_WORDS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "get": (("Retrieve one {o} with all of its fields.", "Read a {o}."), ("Tell me about {o} {id}.", "I'd like to read what is stored on {o} {id}.", "Can I see {o} {id}?", "I have {o} {id} in front of me and know nothing about it.")),
    "list": (("Returns all {os}.", "Which {os} exist."), ("I'd like to see every {o} that we have", "What {os} do I have", "Remind me which {os} exist", "Can I see all of the {os}")),
    "create": (("Make a {o} that doesn't exist yet.", "Opens a fresh {o}."), ("Set up a {o} for me: “{name}”", "There is no {o} called {name} yet, so make one", "Start a fresh {o} and call it “{name}”")),
    "delete": (("Destroys a {o}.", "Permanently remove one {o}."), ("Throw {o} {id} away.", "{o} {id} was a mistake, get rid of it for good.", "Nobody will ever need {o} {id} again; wipe it.", "Make {o} {id} disappear from the system.")),
    "cancel": (("Stops a {o} that was planned.", "Takes a {o} back."), ("{o} {id} won't be needed after all", "Stop {o} {id} before it goes through", "I'd like to back out of {o} {id}")),
    "update": (("Sets a {o}'s name.", "Modify how a {o} is called."), ("The name of {o} {id} is wrong; it should be “{new_name}”.", "From now on {o} {id} goes by {new_name}.", "Correct the title of {o} {id}: {new_name}.")),
    "assign": (("Hands a {o} to a colleague.", "Set who works on a {o}."), ("Let {person} handle {o} {id}.", "{o} {id} is {person}'s job now.", "I have no time for {o} {id}; {person} can do it.")),
    "count": (("Returns the number of {os} with a status.", "Tally {os}."), ("How large is the pile of {status} {os}?", "I need a figure: {status} {os}, how many?", "Do we have many {status} {os}?")),
    "search": (("Full-text search over {os}.", "Look for {os} with certain words."), ("I'm looking for a {o} that has to do with {query}.", "Which {o} was about {query}?", "Did anybody write a {o} on {query}?")),
    "export": (("Save the {os} as a file.", "Dump all {os}."), ("Give me the {os} so that I can open them as {format}.", "I want to take all {os} with me, in {format}.", "My boss needs a {format} of the {os}.")),
    "archive": (("Keep a {o}, but out of sight.", "File a {o} away."), ("{o} {id} is finished; file it away.", "I don't want to see {o} {id} in the list any more, but don't delete it.", "Store {o} {id} with the old ones.")),
    "approve": (("Give the green light to a {o}.", "Says yes to a {o}."), ("{o} {id} has my blessing.", "Go ahead with {o} {id}, I agree.", "I've checked {o} {id} and it's fine. Let it pass.")),
    "share": (("Lets another person see a {o}.", "Mail a {o}."), ("Let {email} have a look at {o} {id}.", "Could {email} get a copy of {o} {id}?", "{o} {id} should go to {email}.")),
    "schedule": (("Puts a {o} on a date.", "Pick the day for a {o}."), ("When {date} comes, it's time for {o} {id}; plan that.", "Let's do {o} {id} on {date}.", "{date} would suit me for {o} {id}.")),
    "set_price": (("Edit the amount that is charged for a {o}.", "Reprice a {o}."), ("From now on we charge {amount} for {o} {id}.", "{o} {id} is too cheap. Take {amount} for it.", "Customers should pay {amount} for {o} {id}.")),
    "status_of": (("How far along a {o} is.", "Progress of a {o}."), ("How far is {o} {id}?", "I'm still waiting for {o} {id}. What's happening with it?", "Has anything happened to {o} {id} since yesterday?")),
    "subscribe": (("Send alerts about a {o}.", "Keep the user posted on a {o}."), ("I don't want to miss anything about {o} {id}; use {channel}.", "Keep me posted on {o} {id} by {channel}.", "Send me a note by {channel} if something happens to {o} {id}.")),
    "enable": (("Set whether a {o} is in use.", "Toggle a {o}."), ("{active?Start using:Stop using} {o} {id}.", "I want {o} {id} {active?running:switched off}.")),
}  # fmt: skip
"""Further descriptions of each verb and further ways to ask for it, some of which use none of its words."""


def composed(draw: Draw, thing: str | None = None, verb: Verb | None = None) -> Function:
    """A function made of a verb and a thing."""
    thing, verb = thing or draw.choice(THINGS), verb or draw.choice(VERBS)
    name, several = thing.replace("_", " "), plural(thing.replace("_", " "))
    number = draw.choice([f"{thing}_id", f"{thing}_id", "id", f"{thing}_number", f"{thing}_code"])
    parameters = tuple(
        Parameter(number, {"type": "string", **_about(draw, name)}, each.value) if each.name == "{o}_id" else each
        for each in verb.parameters
    )

    def fill(text: str) -> str:
        if name[0] in "aeiou":
            text = re.sub(r"\b([Aa]) \{o\}", r"\1n {o}", text)
        return text.replace("{os}", several).replace("{o}", name).replace("{id}", "{" + number + "}")

    word = draw.choice(verb.words)
    plural_name = word in ("list", "list_all", "browse", "count", "number_of", "search", "find", "export", "download")
    return Function(
        words=(*word.split("_"), *(plural(thing) if plural_name else thing).split("_")),
        descriptions=tuple(map(fill, verb.descriptions + _MORE_WORDS[verb.words[0]][0])),
        parameters=parameters,
        asks=tuple(map(fill, verb.asks + _MORE_WORDS[verb.words[0]][1])),
        results=verb.results,
        family=thing,
        verb=verb,
    )


def _about(draw: Draw, name: str) -> dict[str, str]:
    about = draw.choice(["", "", f"Number of the {name}", f"Which {name}", f"Identifier of the {name}"])
    return {"description": about} if about else {}


def plural(word: str) -> str:
    """Such as "entries" for "entry"."""
    if word.endswith(("s", "x", "ch", "sh")):
        return word + "es"
    if word.endswith("y") and word[-2] not in "aeiou":
        return word[:-1] + "ies"
    return word + "s"
