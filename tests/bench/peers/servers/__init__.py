"""The programs that the peers run: what each sends depends on the path of the request, see `tests.bench.peers.ordeal`.

    /echo                       every message comes back as it is
    /count?rate=500             {"n":0}, {"n":1}, ... at that rate
    /close?code=4001&reason=x   closes when the first message comes

What a program prints: "version ...", "listening PORT", and "closed PATH CODE" for each connection that ended.
"""
