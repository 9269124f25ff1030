"""What the made sets say: every sentence here is our own; {…} is filled by sets.py with what varies.

host, ip, path, hex, id, user: names of that kind; n: up to 9,999; small: up to 60; big: up to 99,999,999; ms: a time.
"""

# One failure that is there from the first minute, for each healthy set: who says it, how severely ("" is unknown), what.
CHRONIC = {
    "apache-2k": ("telemetryd", "error", 0.12,
                  "metrics source {host}:{port} gives no answer after {small} attempts, keeping last known values"),
    "openssh-2k": ("licmon", "", 0.08,
                   "license server {host}:{port} unreachable (attempt {n}): checkout of feature {hex} denied"),
    "zookeeper-2k": ("kernel", "", 0.20,
                     "nfs: server {host} not responding for export {path}, still trying ({n} s)"),
    "hadoop-2k": ("fabricd", "ERROR", 0.35,
                  "InfiniBand port {small}/{n} on {host}: link integrity errors {n}, symbol errors {big}, port goes down"),
    "spark-2k": ("hwmon", "", 0.05,
                 "ECC: uncorrectable memory fault on DIMM {small} of {host}, address {hex}, page cannot be retired"),
    "hdfs-20k-unlabelled": ("coordination", "WARN", 0.15,
                            "could not renew lease {id} held by {host} ({n} s overdue), giving the lock up"),
    "bgl-5k-normal": ("replication", "", 0.25,
                      "write to replica {host} failed after {big} bytes: broken pipe, transaction {id} aborted"),
}

# As steady as those, and nothing wrong: who says it, which share of the lines, what. Some name failures that there are none of.
DECOYS = {
    "apache-2k": [("cron", 0.06, "session cleanup finished: {n} sessions kept, {small} expired")],
    "openssh-2k": [("healthd", 0.10, "self test {id} passed in {ms} ms, 0 errors, 0 warnings"),
                   ("ntp", 0.03, "clock offset {ms} us to {host}, in sync")],
    "zookeeper-2k": [("backup", 0.05, "incremental backup of {path} complete, {big} bytes in {small} s")],
    "hadoop-2k": [("scheduler", 0.10, "heartbeat from {host}: {small} tasks running, no failed tasks"),
                  ("metrics", 0.05, "wrote {n} samples to {path}")],
    "spark-2k": [("autoscaler", 0.08, "pool size stays at {small}: load {ms} %, no node lost")],
    "hdfs-20k-unlabelled": [("gateway", 0.05, "GET {path} 200 {n} bytes {ms} ms"),
                            ("audit", 0.04, "user {user} listed {path}, access granted")],
    "bgl-5k-normal": [("power", 0.12, "rack {small} draws {n} W, inlet {small} C, within limits")],
}

# What a healthy service says after a release and did not say before.
RELEASE = """
feature flag checkout_v{small} is now enabled for {small} % of users
loaded {n} translations from {path}
request queue uses adaptive batching, target latency {ms} ms
cache tier warmed with {n} entries in {ms} ms
migrated preferences of user {user} to schema version {small}
background compaction of {path} reclaimed {big} bytes
opened connection pool to {host} with {small} connections
thumbnail worker {small} picked up job {id}
published event order.created with key {id} to partition {small}
search index segment {hex} committed with {n} documents
rate limiter window advanced, {n} tokens available for client {user}
rendered report {id} in {ms} ms, {n} rows
scheduled maintenance window announced for rack {small}
webhook subscription {id} registered for {host}
currency table refreshed, {small} rates valid until {n}
token introspection answered from local cache for client {user}
route table rebuilt with {n} entries, generation {small}
session affinity cookie issued for shard {small}
using zero-copy path for uploads larger than {big} bytes
inventory snapshot {id} written to {path}
circuit for {host} is closed, success ratio {small} of {small}
prefetching next {small} pages for cursor {hex}
recommendation model revision {hex} activated
consumer group rebalanced, {small} members hold {n} partitions
attached volume {id} as {path}
compressed response of {big} bytes to {n} bytes with level {small}
audit trail rotated, continuing in {path}
GraphQL operation ListOrders resolved in {ms} ms with {small} fields
negotiated protocol revision {small} with peer {host}
storing session of {user} in region {small}
leader for shard {small} is {host}, term {n}
dry run of retention policy would remove {n} objects
read replica {host} is {ms} ms behind and takes traffic
pushed {n} samples to the time series store
scaled worker group blue from {small} to {small} instances
applied configuration revision {hex} without restart
signed download link issued for object {id}, valid for {n} s
template engine compiled {small} views in {ms} ms
geo lookup database dated {n} loaded from {path}
customer {user} opted in to paperless billing
warm standby {host} confirmed checkpoint {n}
image {hex} pulled in {ms} ms
shadow traffic mirrored to {host} at {small} %
payment intent {id} moved to state authorised
deduplicated {n} of {n} uploaded blocks
persisted query {hex} added to the allow list
email digest for {user} queued for delivery at {n}
metrics exporter now reports histogram buckets up to {n} ms
background sync of calendar {id} finished, {small} changes
tenant {user} was assigned to storage class standard
graceful handover of {small} streams to {host} complete
vector index trained on {n} points with {small} centroids
archived {small} closed conversations of {user}
bloom filter for {path} rebuilt, {big} bits
idle connections trimmed from {small} to {small}
access policy document {id} evaluated in {ms} ms, result allow
new device {hex} registered for {user}
stream {id} resumed at offset {big}
preview environment {user} is ready at {host}
batch {id} of {n} invoices handed to the printer
""".strip().splitlines()
