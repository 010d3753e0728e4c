"""Tools with requests for them, a tool a line, and the parts that further tools are composed of."""

from __future__ import annotations

CATALOGUE = """
weather|get current weather|Current weather of a city.~Tells temperature and sky for a place right now.|city:city unit:temperature_unit?|What's the weather like in {city}?~Is it cold in {city} right now? [Give it in {unit}.]~current weather for {city} please[, in {unit}]|temperature=degrees
weather|get forecast|Weather forecast for a city and day.~Predicts the weather of a coming day.|city:city date:date|Will it rain in {city} on {date}?~What will the weather be in {city} on {date}?~forecast {city}, {date}
calendar|create event|Adds an event to the calendar.~Put an appointment into the user's calendar.|title:title date:date time:time? attendees:people?|Put "{title}" in my calendar for {date}[ at {time}].~Schedule the {title} on {date}[ at {time}][ with {attendees}].~Book time for the {title} on {date}[, starting {time}], please.
calendar|list events|Lists the events of a day.~Shows what is in the calendar on a date.|date:date|What have I got on {date}?~Am I free on {date}?~Show my appointments for {date}.
reminders|set reminder|Sets a reminder.~Reminds the user of something at a time.|text:message time:time|Remind me at {time}: {text}~At {time}, remind me that {text}.
timers|start timer|Starts a countdown timer.~Counts down a number of minutes.|minutes:minutes label:topic?|Set a timer for {minutes} minutes.~{minutes} minute timer please[, call it {label}]~Count down {minutes} minutes[ for {label}].
timers|set alarm|Sets an alarm clock.~Wakes the user at a time.|time:time|Wake me at {time}.~I need to get up at {time} tomorrow, don't let me oversleep.~alarm {time}
notes|create note|Saves a note.~Writes down a text for later.|text:message tags:labels?|Note down: {text}~Write this down for me: {text}[ (tags: {tags})]~Save a note saying {text}
notes|search notes|Searches the user's notes.~Finds notes that mention something.|query:topic limit:count?|Find my notes about {query}.~What did I write down about {query}?[ At most {limit}.]~look through my notes for {query}
mail|send email|Sends an email.~Writes a mail to somebody.|to:email subject:title body:message?|Email {to} with the subject "{subject}"[ and say {body}].~Send a mail to {to}, subject {subject}[, text: {body}]
mail|search mail|Searches the inbox.~Finds emails by sender or topic.|query:topic sender:person?|Is there any email about {query}[ from {sender}]?~Look in my inbox for mails on {query}[ sent by {sender}].
messages|send text message|Sends a short message to a contact.~Texts a person.|recipient:person message:message|Text {recipient}: {message}~Tell {recipient} that {message}~Let {recipient} know: {message}
phone|call contact|Starts a phone call.~Rings a contact.|name:person|Call {name}.~Get {name} on the phone, please.~Can you ring {name} for me?
files|read file|Reads a text file.~Returns what a file contains.|path:file|What's in {path}?~Open {path} and show me what it says.~print the contents of {path}
files|delete file|Deletes a file for good.~Removes a file from the disk.|path:file|Delete {path}.~{path} can go, get rid of it.~I no longer need {path}, please remove it.
files|move file|Moves a file into a folder.|path:file folder:folder|Move {path} to {folder}.~Put {path} into the folder {folder}.~{path} belongs in {folder}, move it there.
files|list directory|Lists the files of a folder.~Shows which files are in a directory.|folder:folder|Which files are in {folder}?~ls {folder}~Show me what the folder {folder} holds.
web|web search|Searches the web.~Looks something up on the internet.|query:topic limit:count?|Search the web for {query}.~google {query}~Look up {query} online[ and give me {limit} hits].
math|calculate|Evaluates an arithmetic expression.~A calculator.|expression:expression|What is {expression}?~Calculate {expression}.~How much does {expression} come to?|result=decimal
math|random number|Draws a random whole number.~Rolls a number between two bounds.|minimum:count maximum:year|Pick a random number between {minimum} and {maximum}.~Give me any number from {minimum} to {maximum}.|number=count
conversion|convert units|Converts between units of measurement.~Changes lengths, weights and volumes into other units.|value:decimal from_unit:unit to_unit:unit|How many {to_unit} are {value} {from_unit}?~Convert {value} {from_unit} to {to_unit}.~{value} {from_unit} in {to_unit}?|result=decimal
currency|convert currency|Converts money at today's rate.~Exchanges an amount into another currency.|amount:amount from_currency:currency to_currency:currency|How much is {amount} {from_currency} in {to_currency}?~Convert {amount} {from_currency} into {to_currency}.~I have {amount} {from_currency}, what's that in {to_currency}?|result=amount
currency|get exchange rate|Exchange rate of two currencies.|base:currency target:currency|What's the rate from {base} to {target}?~How does {base} stand against {target} today?|rate=decimal
translation|translate text|Translates a text.~Says a text in another language.|text:message language:language|Translate into {language}: {text}~How do I say "{text}" in {language}?~I need this in {language}: {text}
translation|detect language|Tells in which language a text is.|text:message|What language is this: {text}?~Which language is "{text}" written in?
home|set temperature|Sets the heating of a room.~Changes the thermostat.|room:room degrees:degrees|Make it {degrees} degrees in the {room}.~I'm cold, make it {degrees} in the {room}.~Heat the {room} to {degrees}, please.
home|switch light|Turns the light of a room on or off.|room:room state:on_off|Turn {state} the light in the {room}.~Lights {state} in the {room}!~Could you switch the {room} lights {state}?
home|set light color|Changes the colour of the lamps.|room:room color:color brightness:percent?|Make the {room} lights {color}[ at {brightness} percent].~I'd like {color} light in the {room}[, {brightness} percent bright].
home|start vacuum|Sends the vacuum robot to a room.~Cleans the floor of a room.|room:room|Vacuum the {room}.~The floor in the {room} is full of crumbs, send the robot.~clean the {room} floor pls
home|lock door|Locks a door.|door:room|Lock the {door} door.~Please make sure the door of the {door} is locked.
home|set blinds|Opens or closes the blinds by percent.|room:room percent:percent|Set the {room} blinds to {percent} percent.~Too bright in the {room}: blinds to {percent} %.
music|play song|Plays a song.~Starts a piece of music.|title:song room:room?|Play {title}[ in the {room}].~I want to hear {title}[ in the {room}].~put on {title}
music|set volume|Sets the loudness.|percent:percent|Volume to {percent} percent.~It's too loud, {percent} percent would do.~set the sound at {percent}%
playlists|add to playlist|Adds a song to a playlist.|song:song playlist:topic|Add {song} to the playlist {playlist}.~I love {song}, put it on my {playlist} playlist.
playlists|create playlist|Makes a new playlist.|name:title songs:items?|Make a new playlist called {name}.~I'd like a playlist with the name {name}.
recipes|find recipes|Finds recipes by ingredients.~Suggests what to cook.|ingredients:items minutes:minutes?|What can I cook with {ingredients}[ in {minutes} minutes]?~Recipes with {ingredients} please[, at most {minutes} minutes].
shopping|add to shopping list|Puts things on the shopping list.|items:items|We're out of {items}.~Add {items} to the shopping list.~Put {items} on my list, please.
shopping|check stock|Tells how many pieces of an article are left.|article:id|How many of {article} do we have left?~Is article {article} in stock?|pieces=count
maps|get directions|Route between two places.~Tells the way from here to there.|origin:city destination:city mode:transport?|How do I get from {origin} to {destination}[ {mode}]?~Route from {origin} to {destination}[ {mode}] please.|minutes=minutes
maps|find nearby|Finds places of a type near a city.|what:topic city:city|Is there anything for {what} near {city}?~Find {what} around {city}.
maps|get distance|Distance between two cities.|origin:city destination:city|How far is {destination} from {origin}?~distance {origin} {destination}|kilometres=count
rooms|book room|Reserves a meeting room.|date:date time:time people:count?|Reserve a meeting room for {date} at {time}[, we're {people} people].~I need a room on {date}, {time}[, for {people} of us].
rooms|find free rooms|Lists meeting rooms that are free.|date:date|Which meeting rooms are free on {date}?~any free room on {date}?
restaurants|reserve table|Reserves a table.|place:city people:count time:time|Get us a table for {people} at {time} in {place}.~Table in {place}, {people} people, {time}, please.
git|create branch|Creates a branch.|name:branch|Make a branch {name}.~New git branch called {name}, please.
git|merge branch|Merges one branch into another.|source:branch target:branch?|Merge {source}[ into {target}].~{source} is reviewed, merge it[ into {target}].
git|show diff|Shows what changed in a file.|path:file|What changed in {path}?~Show the diff of {path}.
git|commit changes|Commits with a message.|message:message|Commit with the message "{message}".~commit this: {message}
code|run tests|Runs the tests of a file.|path:file verbose:on_off?|Run the tests in {path}.~Do the tests of {path} still pass?
code|format code|Formats source code.|path:file|Format {path}.~The indentation in {path} is a mess, tidy it up.
databases|count rows|Counts the rows of a table.|table:topic|How many rows has the table {table}?~count everything in table {table}|rows=count
databases|backup database|Makes a backup.|name:title|Back up the database {name}.~Please make a safe copy of the {name} database.
servers|restart service|Restarts a service.|service:title|Restart the {service} service.~The service {service} hangs, give it a kick.
servers|get server load|Load of a server.|host:id|How busy is server {host}?~What's the load on {host}?|load=percent
servers|get logs|Last lines of a log.|host:id lines:count?|Show me the log of {host}[, last {lines} lines].~What do the logs on {host} say?[ {lines} lines will do.]
books|find book|Searches the library's catalogue.|title:title author:person?|Do you have the book "{title}"[ by {author}]?~Look for {title}[ by {author}] in the catalogue.
books|renew loan|Extends the loan of a book.|book:id|Can I keep book {book} longer?~Renew my loan {book}.
school|enter grade|Records a pupil's grade.|pupil:person grade:count|{pupil} got a {grade}, put it in the book.~Record grade {grade} for {pupil}.
school|mark absent|Marks a pupil as absent.|pupil:person date:date|{pupil} isn't at school on {date}, please record it.~Mark {pupil} absent for {date}.
sports|get score|Score of a team's last game.|team:city|How did {team} play?~What was the score of {team}'s game?
sports|log workout|Records a training session.|activity:topic minutes:minutes|I did {minutes} minutes of {activity}, log it.~Log a workout: {activity}, {minutes} min
garden|water plants|Waters a bed for some minutes.|bed:id minutes:minutes|Water bed {bed} for {minutes} minutes.~The plants in {bed} look dry, {minutes} minutes of water please.
energy|get power use|Power use of a room.|room:room date:date?|How much power did the {room} use[ on {date}]?~Electricity for the {room}[ on {date}], please.|kilowatt_hours=decimal
energy|get solar output|Yield of the solar panels on a day.|date:date|How much did the panels make on {date}?~Solar yield for {date}?|kilowatt_hours=decimal
lab|start centrifuge|Starts the centrifuge.|minutes:minutes sample:id|Spin sample {sample} for {minutes} minutes.~Centrifuge {sample}, {minutes} min.
lab|record measurement|Stores a reading of a sample.|sample:id value:decimal unit:unit?|Sample {sample} reads {value}[ {unit}], store it.~Record {value}[ {unit}] for {sample}.
money|transfer money|Transfers money.|recipient:person amount:amount currency:currency|Send {amount} {currency} to {recipient}.~I owe {recipient} {amount} {currency}, please pay.
money|get balance|Balance of an account.|account:id|What's left on account {account}?~Balance of {account}?|balance=amount
money|split bill|Splits an amount between people.|amount:amount people:people|Split {amount} between {people}.~The bill was {amount}, {people} share it.|each=amount
news|get headlines|Headlines on a topic.|topic:topic limit:count?|What's new about {topic}?~Give me[ {limit}] headlines on {topic}.
cars|book charger|Reserves a charging point.|place:city time:time|I need to charge the car in {place} at {time}.~Reserve a charger in {place} for {time}.
transport|next bus|Next bus from a stop.|stop:city|When's the next bus from {stop}?~I'm at {stop}, when does the bus come?|minutes=minutes
events|buy tickets|Buys tickets for an event.|event:title count:count|Buy {count} tickets for the {event}.~We want to see the {event}, {count} tickets please.
property|schedule viewing|Arranges a viewing of a flat.|flat:id date:date|I'd like to see flat {flat} on {date}.~Arrange a viewing of {flat} for {date}.
cafe|order coffee|Orders coffee.|size:size count:count|{count} {size} coffees please.~Order {count} coffees, {size} ones.
""".strip()
"""domain|name|descriptions|parameters, "?" for optional|requests, optional parts in []|fields of a result"""

OBJECTS = (
    "invoice order ticket contract booking permit parcel lesson report quote survey newsletter locker membership "
    "complaint refund course timesheet expense voucher visitor badge workshop subscription warranty listing lease meter "
    "shift delivery proposal campaign application certificate repair draft backup dataset sample experiment recipe "
    "photo album donation auction rental tournament rehearsal device printer seedling greenhouse"
).split()

OBJECTS_PAIRED = (
    "work order,gift card,parking space,room key,bug report,price list,job posting,field trip,test run".split(",")
)

# verb: descriptions, parameters, requests, what is then said. {o}: the object, {os}: several of them.
VERBS: dict[str, tuple[str, str, str, str]] = {
    "get": ("Get one {o} by its number.~Details of a single {o}.", "{o}_id:id", "Show me {o} {{o_id}}.~What do we know about {o} {{o_id}}?~Pull up {o} {{o_id}}, please.", ""),
    "cancel": ("Cancel a {o}.~Calls off a {o}.", "{o}_id:id", "Cancel {o} {{o_id}}.~Please call off {o} {{o_id}}.~We want {o} {{o_id}} cancelled.", "is cancelled"),
    "delete": ("Delete a {o} for good.~Erases a {o}.", "{o}_id:id", "Delete {o} {{o_id}}.~Erase {o} {{o_id}} for good, please.", "is deleted"),
    "archive": ("Archive a {o}.~Puts a {o} into the archive.", "{o}_id:id", "Archive {o} {{o_id}}.~{O} {{o_id}} should go into the archive.", "is archived"),
    "approve": ("Approve a {o}.~Gives the OK to a {o}.", "{o}_id:id", "Approve {o} {{o_id}}.~{O} {{o_id}} looks good to me, give it the OK.", "is approved"),
    "reject": ("Reject a {o} with a reason.", "{o}_id:id reason:message?", "Reject {o} {{o_id}}[, because {{reason}}].~I won't accept {o} {{o_id}}, turn it down.", "is rejected"),
    "print": ("Print a {o}.~Prints a {o} on paper.", "{o}_id:id copies:count?", "Print {o} {{o_id}}[, {{copies}} copies].~I need {o} {{o_id}} on paper.", "is printed"),
    "rename": ("Give a {o} a new name.", "{o}_id:id new_name:title", "Rename {o} {{o_id}} to \"{{new_name}}\".~{O} {{o_id}} should be called {{new_name}} from now on.", "is renamed"),
    "assign": ("Assign a {o} to a person.~Makes somebody responsible for a {o}.", "{o}_id:id assignee:person", "Assign {o} {{o_id}} to {{assignee}}.~{{assignee}} should take care of {o} {{o_id}}.", "is assigned"),
    "close": ("Close a {o}.~Marks a {o} as done.", "{o}_id:id", "Close {o} {{o_id}}.~{O} {{o_id}} is done, you can close it.", "is closed"),
    "share": ("Share a {o} with people.", "{o}_id:id people:people", "Share {o} {{o_id}} with {{people}}.~{{people}} should be able to see {o} {{o_id}}.", "is shared"),
    "export": ("Export a {o} to a file format.", "{o}_id:id format:format", "Export {o} {{o_id}} as {{format}}.~I need {o} {{o_id}} as a {{format}} file.", "is exported"),
    "tag": ("Put labels on a {o}.", "{o}_id:id labels:labels", "Tag {o} {{o_id}} with {{labels}}.~Put the labels {{labels}} on {o} {{o_id}}.", "is labelled"),
    "lock": ("Lock a {o} against changes.", "{o}_id:id", "Lock {o} {{o_id}}.~Nobody should change {o} {{o_id}} any more, lock it.", "is locked"),
    "reschedule": ("Move a {o} to another date.", "{o}_id:id date:date", "Move {o} {{o_id}} to {{date}}.~Can {o} {{o_id}} be on {{date}} instead?", "is moved"),
    "create": ("Create a new {o}.~Makes a {o}.", "title:title owner:person? priority:priority?", "Create a new {o} titled \"{{title}}\"[ for {{owner}}].~Make a {o} called {{title}}[, priority {{priority}}].~I need a new {o}, title {{title}}.", "is created"),
    "list": ("List the {os}, by status if one is given.", "status:status?", "Show me all[ {{status}}] {os}.~Which[ {{status}}] {os} are there?", ""),
    "count": ("Count the {os} of a day.", "date:date", "How many {os} were there on {{date}}?~Number of {os} on {{date}}?", ""),
    "search": ("Find {os} by the customer's name.", "customer:person", "Find the {os} of {{customer}}.~Which {os} belong to {{customer}}?", ""),
}  # fmt: skip
