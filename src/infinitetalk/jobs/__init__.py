"""Jobs that wait their turn: a queue and its store, below the faces that fill it.

    with JobQueue(folder, Workshop()) as queue:                 # SQLite in the folder, or a database by its URL
        record = queue.submit(request, owner="anna")            # refused at once, or queued; its files are copied
        for record in queue.watch(record.id, owner="anna"):     # after every change, until it is over
            print(record.state, record.progress.fraction, record.progress.seconds_left)
        queue.cancel(record.id, owner="anna")                   # finished windows stay a video
        queue.files(record.id).video, .sidecar, .playlist       # where they are; the playlist plays meanwhile

`submit` takes `key=` to do the same thing once however often it is asked, and `room=queue.room()` for a face that
writes its uploads to `room.inputs` itself. `records(owner)` lists jobs, newest first; `remove` deletes one with its
files. Every call but `files` names the owner, and another's job does not exist for it. A process that was killed is
followed by one whose queue goes on at each job's next window.
"""
