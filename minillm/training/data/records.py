"""The kinds of text that a record is extracted from, and the sentences that tell each of its fields."""

from __future__ import annotations

KINDS = """
# booking mail
name,guest,guest_name,customer|person|name of the guest|the room is for {v}. / Please book it under the name {v}. / My name is {v}.
nights,numberOfNights,stay_nights|int 1 14|number of nights|We stay {v} nights. / That makes {v} nights in all. / Nights: {v}.
arrival,arrival_date,checkIn|date|day of arrival|We arrive on {v}. / Check-in: {v}. / You can expect us on {v}.
breakfast,with_breakfast,breakfastIncluded|bool|whether breakfast is wanted|Breakfast, please. / We'd like breakfast too. // No breakfast for us. / We don't need breakfast.
phone,phone_number,contactPhone|phone|phone number|You reach me at {v}. / Phone: {v}. / Call {v} if something changes.
room,room_type,roomType|enum single,double,family,suite|kind of room|A {v} room would be best. / We need a {v} room.
# receipt
shop,merchant,store_name|company|the shop|{v} thanks you for your visit. / Receipt of {v}. / Sold by {v}.
total,amount,total_amount|money|sum paid|Total: {v} EUR. / To pay: {v}. / The sum comes to {v} euros.
items,products,lineItems|list thing|things bought|Bought: {v}. / Items: {v}. / In the bag: {v}.
date,purchase_date,boughtOn|date|day of the purchase|Date: {v}. / Printed on {v}.
payment,paid_by,paymentMethod|enum cash,card,voucher|means of payment|Paid by {v}. / Payment: {v}.
receipt_no,number,receiptId|code|number of the receipt|Receipt no. {v}. / No. {v}.
# job advert
employer,company,organisation|company|who hires|{v} is growing. / Come and join {v}. / We are {v}.
title,position,job_title,role|enum accountant,web developer,gardener,sales clerk,teacher,electrician,librarian|the job|We are looking for a {v}. / Open position: {v}. / Wanted: {v}.
city,location,workplace|town|where|You will work in {v}. / Place of work: {v}. / Our office is in {v}.
salary,yearly_salary,annualPay|int 22000 98000|pay per year|We pay {v} a year. / Salary: {v}. / Yearly pay of {v}.
remote,remote_possible,isRemote|bool|whether one may work from home|You may work from home. / Remote work is possible. // The work is on site only. / Remote work isn't possible.
contact,contact_email,email|email|where to apply|Write to {v}. / Applications to {v}. / Questions? {v}
# bug report
reporter,reported_by,author|person|who reports|Reported by {v}. / {v} noticed this first. / Reporter: {v}.
version,app_version,release|version|version concerned|It happens in version {v}. / Version: {v}. / I'm on {v}.
severity,priority,level|enum low,medium,high,critical|how bad|Severity: {v}. / I'd call the severity {v}.
component,module,area|enum login,search,export,printing,calendar,upload|part of the program|The {v} is broken. / It concerns the {v}. / Component: {v}.
reproducible,can_reproduce,isReproducible|bool|whether it can be repeated|I can reproduce it every time. / It happens always. // I could not reproduce it. / It never happened again.
ticket,ticket_id,issueId|code|ticket|Ticket {v}. / See also {v}.
# lost and found
item,object,lost_item|thing|what was lost|I lost a {v}. / Missing: one {v}. / Has anyone seen my {v}?
place,location,where|town|where|It was on the bus to {v}. / I last had it in {v}.
owner,name,finder|person|whose it is|It belongs to {v}. / Owner: {v}.
reward,finders_reward,rewardAmount|int 5 200|reward|There is a reward of {v} euros. / Reward: {v}.
phone,call,phoneNumber|phone|phone|Please call {v}. / My number is {v}.
# minutes
chair,chaired_by,moderator|person|who led the meeting|{v} opened the meeting. / Chair: {v}. / In the chair was {v}.
attendees,present,participants|list person|who was there|Present: {v}. / At the table: {v}.
date,meeting_date,heldOn|date|day|Minutes of {v}. / We met on {v}.
next,next_meeting,nextDate|date|next meeting|We meet again on {v}. / Next meeting: {v}.
budget,approved_budget,budgetApproved|int 300 90000|money agreed|A budget of {v} was approved. / We agreed on {v} for the project.
# flat listing
address,street,location|address|address|The flat is at {v}. / Address: {v}. / {v} is the place.
rooms,room_count,numRooms|int 1 7|number of rooms|It has {v} rooms. / {v} rooms. / Rooms: {v}.
rent,monthly_rent,price|int 300 2900|rent per month|The rent is {v} a month. / {v} euros monthly. / Rent: {v}.
size,area,area_sqm|int 18 190|square metres|{v} square metres. / Living space: {v} m².
pets,pets_allowed,petsAllowed|bool|whether pets are allowed|Pets are welcome. / You may bring your dog. // No pets. / Pets are not allowed.
agent,contact,landlord|person|whom to ask|Ask for {v}. / Contact: {v}. / {v} shows it on weekends.
# event notice
event,title,event_name|enum summer fair,chess night,book swap,coding workshop,open day,flea market,poetry slam|what happens|You are invited to the {v}. / The {v} is back. / Don't miss our {v}.
date,day,eventDate|date|day|It takes place on {v}. / Save the date: {v}. / When: {v}.
time,start,startsAt|time|start|We start at {v}. / Doors open at {v}. / From {v}.
venue,place,where|address|place|Come to {v}. / Where: {v}. / Meet us at {v}.
fee,entry,entryFee|money|price of entry|Entry is {v}. / Tickets cost {v}.
organiser,host,organizer|company|who organises|Hosted by {v}. / {v} organises it.
# chat message
sender,from,writer|person|who writes|hey, it's {v} here. / {v} writing! / this is {v}.
time,when,meetingTime|time|time|let's meet at {v}. / see you at {v}? / {v} works for me.
place,where,meetingPoint|address|place|I'll wait at {v}. / we meet at {v}.
bring,things,toBring|list thing|what to bring|can you bring these: {v}? / pls bring {v}.
driving,by_car,isDriving|bool|whether the writer drives|I'm coming by car. / I'll drive. // I won't drive. / I'm not taking the car.
# product description
product,name,product_name|thing|what it is|Meet our new {v}. / This {v} lasts. / Product: {v}.
maker,brand,manufacturer|company|who makes it|Made by {v}. / From the house of {v}. / Brand: {v}.
price,cost,unitPrice|money|price|It costs {v}. / Price: {v}. / Yours for {v}.
weight,weight_g,weightGrams|int 50 9000|weight in grams|It weighs {v} g. / Weight: {v} grams.
colour,color,colourName|enum red,green,navy,white,black,sand|colour|It comes in {v}. / Colour: {v}.
in_stock,available,inStock|bool|whether it can be had now|In stock. / It is available now. // Sold out. / It is out of stock.
sku,article,articleNumber|code|article number|Article {v}. / Order number {v}.
# invoice
supplier,vendor,issuedBy|company|who bills|Invoice from {v}. / {v} bills you as follows. / Supplier: {v}.
invoice_number,number,invoiceNo|code|number|Invoice {v}. / Number: {v}. / Please quote {v}.
due,due_date,payBy|date|last day to pay|Due on {v}. / Please pay by {v}.
total,amount_due,grandTotal|money|sum|Total due: {v}. / The sum is {v}. / Amount: {v}.
paid,is_paid,alreadyPaid|bool|whether it has been paid|It is paid already. / We have received your payment. // It is still unpaid. / Payment is still open.
# class announcement
teacher,instructor,taughtBy|person|who teaches|Taught by {v}. / {v} will teach it. / Teacher: {v}.
subject,course,topic|enum pottery,algebra,Spanish,photography,Python,swimming,carpentry|subject|A class in {v}. / Learn {v} with us. / Subject: {v}.
seats,places,maxParticipants|int 4 60|places|There are {v} places. / At most {v} people.
start,start_date,begins|date|first day|It begins on {v}. / First lesson: {v}.
fee,price,courseFee|int 20 900|price|The fee is {v}. / It costs {v} euros.
# delivery note
recipient,receiver,deliverTo|person|who gets it|For {v}. / Deliver to {v}. / Recipient: {v}.
address,street,deliveryAddress|address|where|To {v}. / Address: {v}.
parcels,packages,parcelCount|int 1 40|how many parcels|{v} parcels. / Number of parcels: {v}.
tracking,tracking_number,trackingCode|code|tracking number|Tracking: {v}. / Follow it with {v}.
fragile,is_fragile,handleWithCare|bool|whether it may break|Fragile! / Caution, the content is fragile. // The content is not fragile. / Nothing fragile inside.
# phone note
caller,from,who|person|who called|{v} called. / Call from {v}. / Caller: {v}.
firm,company,employer|company|the caller's firm|She is with {v}. / Firm: {v}. / It was about {v}.
callback,phone,callBackNumber|phone|number to call|Call back at {v}. / Number: {v}.
time,called_at,callTime|time|time of the call|That was at {v}. / Time: {v}.
urgent,is_urgent,isUrgent|bool|whether it is urgent|It's urgent. / Please do it at once, it's urgent. // It isn't urgent. / No hurry.
# used car
model,car,carModel|code|model|I'm selling my {v}. / Model: {v}.
year,built,yearBuilt|int 1995 2025|year|Built in {v}. / Year: {v}.
mileage,km,kilometres|int 9000 250000|kilometres|{v} km on the clock. / Mileage: {v}.
price,asking_price,priceEur|int 500 40000|price|I'm asking {v}. / Price: {v} euros.
fuel,fuel_type,fuelType|enum petrol,diesel,electric,hybrid|fuel|It is a {v} car. / Fuel: {v}.
seller,name,contactName|person|who sells|Ask for {v}. / Seller: {v}.
# sports report
winner,winning_team,winnerName|town|who won|{v} won. / The winner is {v}. / Victory for {v}!
scorer,top_scorer,bestPlayer|person|best player|{v} scored most. / Best on the field was {v}.
spectators,attendance,crowd|int 40 48000|spectators|{v} people watched. / Attendance: {v}.
date,match_day,playedOn|date|day|It was played on {v}. / Date: {v}.
# energy meter note
meter,meter_id,meterNumber|code|meter|Meter {v}. / Reading of meter {v}.
reading,kwh,meterReading|int 1000 99999|value|It shows {v} kWh. / Reading: {v}.
reader,read_by,technician|person|who read it|Read by {v}. / {v} came by.
date,read_on,readingDate|date|day|On {v}. / Date of reading: {v}.
# lab note
sample,sample_id,sampleId|code|sample|Sample {v}. / This concerns {v}.
temperature,temp_c,temperatureC|number 3 95|degrees Celsius|Heated to {v} °C. / Temperature: {v} degrees.
ph,ph_value,pH|number 1 13|pH|The pH was {v}. / pH: {v}.
scientist,analyst,measuredBy|person|who measured|Measured by {v}. / Analyst: {v}.
ok,passed,isValid|bool|whether the sample passed|The sample passed. / Result: passed. // The sample failed. / Result: failed.
# library loan
reader,borrower,member|person|who borrows|Borrowed by {v}. / {v} took it home. / Reader: {v}.
book,signature,callNumber|code|signature of the book|Signature {v}. / The book is {v}.
due,return_by,dueDate|date|day of return|Bring it back by {v}. / Due: {v}.
fine,late_fee,fineAmount|money|fine|The fine is {v}. / Late fee: {v}.
# table reservation
guest,name,reservedFor|person|who comes|A table for {v}, please. / Reserve it for {v}. / {v} is the name.
people,party_size,numberOfGuests|int 1 16|how many people|We are {v} people. / Guests: {v}. / A party of {v}.
date,day,reservationDate|date|day|On {v}. / We come on {v}.
time,at,arrivalTime|time|time|At {v}. / We'd be there at {v}.
outside,terrace,outdoorSeating|bool|whether to sit outside|We'd like to sit outside. / Outside, please. // Not outside, please. / We'd rather sit inside.
# server alert
host,server,hostname|code|machine|Alert on {v}. / Host: {v}. / {v} reports trouble.
cpu,cpu_percent,cpuLoad|int 50 100|load in percent|CPU at {v} %. / Load: {v} %.
level,severity,alertLevel|enum info,warning,error,critical|level|Level: {v}. / This is of level {v}.
owner,on_duty,assignee|person|who looks after it|{v} is looking into it. / Assigned to {v}.
since,started,startTime|time|since when|Since {v}. / It began at {v}.
# introduction
name,full_name,fullName|person|name|Hi, I'm {v}. / My name is {v}. / I'm called {v}.
age,years,ageYears|int 18 90|age|I'm {v} years old. / Age: {v}.
city,home,livesIn|town|where the person lives|I live in {v}. / My home is {v}.
email,mail,emailAddress|email|mail address|Mail me at {v}. / E-mail: {v}.
languages,speaks,spokenLanguages|list language|languages|I speak {v}. / Languages: {v}.
# delivery note
sender,from_company,shipper|company|who sends|Sent by {v}. / {v} has handed us the goods. / From: {v}.
recipient,deliver_to,receiver|person|who receives|For {v}. / Please hand it to {v} in person. / Recipient: {v}.
address,destination,deliveryAddress|address|where to|To be brought to {v}. / Destination: {v}.
parcels,parcel_count,numParcels|int 1 40|number of parcels|{v} parcels in all. / Parcels: {v}.
weight,weight_kg,totalWeight|number 1 90|weight in kilograms|Together they weigh {v} kg. / Weight: {v} kg.
fragile,is_fragile,handleWithCare|bool|whether it may break|Careful, fragile! / The contents break easily. // Nothing in it can break. / It isn't fragile.
# energy bill
customer,account_holder,billedTo|person|who pays|Dear {v}, here is your bill. / Billed to {v}. / Customer: {v}.
meter,meter_number,meterId|code|meter|The meter is {v}. / Meter no. {v}.
used,consumption_kwh,kwhUsed|int 90 9000|energy used, in kWh|You used {v} kWh. / Consumption: {v} kWh.
amount,amount_due,total|money|sum to pay|Please pay {v} euros. / Amount due: {v}.
due,pay_by,dueDate|date|last day to pay|Pay by {v}. / The money is due on {v}.
# match report
winner,winning_team,wonBy|town|town of the team that won|The team from {v} won. / Victory went to {v}.
spectators,attendance,crowdSize|int 20 9000|how many watched|{v} people watched. / Spectators: {v}.
referee,umpire,refereeName|person|referee|{v} was the referee. / The match was led by {v}.
scorers,goal_scorers,scoredBy|list person|who scored|Goals by {v}. / The scorers were {v}.
date,played_on,matchDate|date|day of the match|The match was played on {v}. / Date of the match: {v}.
extra_time,overtime,wentToOvertime|bool|whether there was extra time|It took extra time to decide it. // It was decided within the normal time.
# car offer
model,car,car_model|enum hatchback,estate car,van,convertible,pickup|kind of car|For sale: a {v}. / I'm selling my {v}.
mileage,kilometres,km|int 900 290000|kilometres driven|It has run {v} km. / Kilometres: {v}.
price,asking_price,priceEuro|int 400 39000|price|I ask {v} euros. / Price: {v}.
seller,owner,soldBy|person|who sells|The seller is {v}. / Ask for {v}.
inspection,next_inspection,inspectionDue|date|next inspection|The next inspection is on {v}. / To be inspected by {v}.
accident_free,no_accidents,accidentFree|bool|whether it is free of accidents|It has never had an accident. // It was in an accident once.
"""

FILLERS = (
    "The weather has been lovely lately.|Thanks in advance!|Best wishes.|Let me know if anything is unclear.|We had a "
    "good laugh about the old printer.|Please don't forget the keys.|The coffee machine is being cleaned.|Parking is "
    "behind the house.|Have a nice week.|Sorry for the short notice.|More will follow.|The rest stays as it was.|I had "
    "to think of our last trip.|By the way, the stairs have been painted.|This was typed in a hurry.|Greetings from "
    "the whole team.|The window on the left still sticks.|We look forward to it.|Nothing else to report.|There were "
    "cookies."
).split("|")
