"""Conversations with an exchange, as files: what is subscribed, what the exchange says, what must come out.

    [[case]]
    name = "one bad topic of three"
    source = "Bybit's documentation of the error"
    subscribe = ["orderbook.50.BTCUSDT", "orderbook.50.NOPEUSDT"]
    answers = [{ when = { op = "subscribe" }, say = ['{"success":true,"req_id":"$.req_id","op":"subscribe"}'] }]
    sends = ['{"topic":"orderbook.50.BTCUSDT", ...}']
    streams = ["orderbook.50.BTCUSDT"]
    rejected = ["orderbook.50.NOPEUSDT"]

`answers`: for each frame of the client the first rule that fits is answered: `when` = path and value as in a dialect's
`match`, `has` = a text that the frame holds; in what it says `"$.path"` stands for what is there in the frame (its type
kept), `$.path$` within a text for its text; a number makes what follows come so many seconds later. `times`: so often the
rule holds, then the next one counts. `sends`: what the exchange says when all is answered; a number is a pause in seconds,
"hex:..." a binary message. With `binary` all that the exchange says is binary, packed as the dialect's [payload] says.
`streams`: for each message that must be delivered the name of its stream ("" for none), in order; `delivered` the messages,
if they are not those of `sends`; `errors`: a piece of the text of each `rejected`; `identities`: of each message whether it
is a "snapshot", has an identity of its "own", or "none". `unsubscribe`: what is not wanted any more after all that;
`farewells`: all that is sent from then on, until everything is answered; `logs`: a piece of each line that is logged.
Everything is driven through the owner's session with the clock in the test's hand: no socket, no process.
"""
