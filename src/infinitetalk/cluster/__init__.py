"""Jobs on a Ray cluster: one process for each group of GPUs, whose state returns through a store alone.

    vault = Vault("s3://bucket/talks")                        # any URL that fsspec knows and every node reaches
    with connected("auto"), Pool(vault.url) as pool:          # a cluster that runs
        ticket = pool.submit(order_of(job, vault, "anna.mp4"))
        ended = ticket.wait()                                 # the video is in the store

A worker keeps every finished window in the store before it begins the next one. When its node is lost, the job goes on
at another one from there. Needs `pip install 'infinitetalk[ray]'`.
"""
