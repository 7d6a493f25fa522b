"""A repo on a PDS of the AT Protocol: reading a collection, and writing records exactly as their JSON says.

What a kind needs, in the order of a run. Nothing is imported here: every module loads what it needs, httpx and libipld with it.

    from reconciler.systems.pds.session import Login, Session
    with Session(Login("alice.example.com", password=…), waiting=tell) as session:      # finds the PDS; logs in when first needed
        …                                    # session.did, .handle, .pds; Login(pds=…, plc=…, via=…, token=…)

Plan: both sides as rkey → CID.
    records.read(collection, rkey, json_text) -> Record      # .cid is what the PDS will give it; refused by name if it cannot be kept
    syntax.record_uri(text) -> RecordUri                     # .rkey of an at-uri; also syntax.rkey, nsid, did
    inventory.inventory(session, collection) -> Inventory    # .cids: rkey → CID; .commit if all was true at one commit
    inventory.bodies(session, collection, rkeys) -> Found…   # texts of some, for before-images and undo
    inventory.listed(session, collection) -> Found…          # texts of all, for extract
    car.opened(path) -> Car                                  # a backup: .cids(collection), .records(collection), .did, .collections()
    inventory.fetched(session) -> Car                        # the repo now, as a CAR
    blobs.references(json_text) -> Reference…; blobs.held(session) -> CIDs; blobs.missing(session)
    session.quota                                            # points this run spent, and what answers tell of earlier ones
    quota.seconds_for(creates, updates, deletes)             # how long a PDS that counts will take at least

    compare.compare(session, wanted, file) -> Compared       # all of the above for a resource; emit.steps_of makes its steps

Apply (`apply.execute` for a run of steps): blobs first, then records.
    blobs.upload(session, reference, path_or_bytes)
    write.check(known, writes)                               # Drift, naming every record that is not as planned, before anything is done
    write.write(session, writes, known=inventory, validate=…) -> Result…   # applied, already, failed (with its error); or Drift

A `Write` says what the plan saw and what is to be: `Write(collection, rkey, before_cid, record)`; `before_cid` None creates, `record` None
deletes. Undo swaps them: the record from its before-text, on the CID the plan wrote. A `Drift` in the middle leaves earlier calls done and
told; applying the same plan again finds them `already`.

`tell` gets a `Wait(seconds, reason)` before every pause: a limit of the server's, a lost connection. It may raise to end the run.
Invariants: a record's text never passes through a float or a model; no answer is taken for complete unless it says so; nothing is written
that was not just seen as planned; no password or token is in an error, a repr or a log.
"""
