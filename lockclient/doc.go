// Package lockclient takes locks in a shared Redis: fair, fenced, and told in
// time when they are lost. It is the only package here that knows Redis, and it
// knows nothing of clusters of peers.
//
//	err := client.Do(ctx, "reports/daily", func(ctx context.Context, l *lockclient.Lock) error {
//		return write(ctx, l.Fence()) // ctx ends when the lock is lost
//	})
//
// # What it promises
//
// At one time, at most one holds a lock (or those who agreed to share it), while
// these are true: one Redis primary keeps its data; the rates of the clocks of
// Redis and of the holder differ by less than a hundredth; nobody steps the
// clock of Redis forward, which would end every hold at once; and who holds a
// lock stops when the lock's context ends.
//
// The loss is told in time. A holder counts from before its question left, and
// takes off a hundredth of the time to live, at least 2 ms: by its own monotonic
// clock it stops before Redis can give the lock to the next, at every phase of
// renewal, whatever the network does. An answer that comes later revives
// nothing. A process that was stopped, or a machine that slept (on Linux), finds
// its context done.
//
// Each grant has a fence, a number greater than that of every grant of this lock
// before, also after Redis lost its data or a failover forgot a grant, as long
// as the clock of Redis was not set back meanwhile. It comes with the answer of
// the acquire, and never changes. A resource that refuses a fence smaller than
// one it has seen (FenceCheckLua, FenceCheckSQL) is safe from a holder who does
// not know yet that it lost, and that alone is safe without conditions.
//
// Waiters of all processes are served in the order in which they asked, those
// who would share a lock in the same queue as those who want it alone, and try
// overtakes nobody. Nobody polls: the next is called by its name when the lock
// is released. A waiter whose process is gone costs those behind it nothing; one
// that is cut off its claim, a third of its time to live; a holder that is gone
// the rest of its time to live. A waiter that was cut off has its old place, and so
// have all when Redis lost its data: when the first of them asks again, nobody is
// granted the lock for two seconds, and then they are served as they stood. One who
// asks for the first time before that finds a lock that is free.
//
// # What it does not promise
//
// Redis replicates after it has answered. When the primary dies and a replica
// that missed the grant takes its place, two may hold the lock for up to one
// time to live. The fence still rises, and the first is told by its deadline.
// Config.WaitReplicas makes that less likely, not impossible.
//
// A Redis that starts anew without its data forgets what it granted. Who held a
// lock is told as soon as it can be reached, and by its deadline in any case;
// Config.QuietAfterStart keeps others out until then.
//
// This is not Redlock, which would need several primaries, costs a round trip to
// each, has no fence that rises, and is broken by restarts and clock steps all
// the same.
//
// Do not let Redis evict keys (maxmemory-policy noeviction, or a volatile one
// would do it to locks): an evicted lock is a lock that anyone may take.
//
// # Faults
//
// What may befall, what becomes of who holds a lock and of who waits, and the tests
// that show it: of this package unless another is named; on a real redis-server,
// in virtual time, or both.
//
//	the holder is cut off, at any phase of       told before the next is granted            TestToldBeforeTheNext
//	 a renewal
//	a waiter is cut off                          costs others its claim; keeps its place    TestWaiterCutOff, TestWaiterLongCutOff
//	a process is gone                            a waiter's costs nothing, a holder's the   TestProcessesGone
//	                                             rest of its time to live
//	the holder is stopped (SIGSTOP)              lost; stale writes refused; the new one    TestHolderStopped,
//	                                             is left alone                              TestHistoryOfStoppedProcesses
//	an answer is lost                            asked again; no hold that nobody knows of  TestLostReply, TestCancelCrossesGrant,
//	                                             the place and the shared hold stay         TestResentKeepsItsPlace,
//	                                                                                        TestResentTakesOneSlot
//	an answer comes late                         kept while a round trip is less than a     TestSlow, TestOneRoundTrip,
//	                                             third of the time to live; waiters stay    TestHandedOverFarAway,
//	                                                                                        TestLateGrantKeepsItsPlace,
//	                                                                                        TestManyRenewedFarAway
//	Redis stalls for twice the time to live      told by the deadline; waiters stay         TestStalled
//	Redis is cut off, its connections break      kept if it is back by the deadline         TestConnectionsReset, TestHistoryReal
//	CLIENT KILL, of any kind                     kept; calls that broke are sent again      TestClientsKilled
//	a proxy accepts and closes                   an error at once, few dials                TestCutAtOnce
//	Redis is down for a minute                   errors at once, a dial a second, waiters   TestDownForAMinute,
//	                                             stay                                       TestUpAndDownWhenIdle
//	Redis is killed, comes back empty            told as soon as it is back; fences rise;   TestRestartedEmpty, TestToldOfRestart
//	                                             waiters ask again, and nobody is granted   TestOrderKeptOverRestart
//	                                             it for 2 s: they keep their order
//	 and grants at once                          two may hold until the first is told,      TestQuietAfterStart,
//	                                             but with QuietAfterStart                   TestHistoryReal
//	FLUSHALL                                     told by the next renewal; fences rise      TestFlushed, TestKeyTampered
//	a key is deleted, or becomes a list          told by the next renewal; "wrong type"     TestKeyTampered
//	another program's value is at its key        told at once, with the key, to who comes   TestForeignValue
//	                                             and who waits
//	maxclients is reached                        "too many clients"; waiters stay           TestTooManyClients
//	no such database; a proxy without pub/sub    "database", "unsupported"; waiters end     TestNoSuchDatabase,
//	                                                                                        TestProxyWithoutPubSub
//	SCRIPT FLUSH                                 nothing                                    TestScriptsFlushed
//	released by force                            told in a round trip, the next is called   TestForceRelease, TestForcedAtOnce,
//	                                                                                        TestForcedBeforeItsGrantIsSeen
//	out of memory                                "out of memory"; kept; waiters stay        TestUnavailable, TestRefusedWhileHeld
//	read-only, too few replicas                  "read-only"; lost by the deadline;         TestUnavailable, TestRefusedWhileHeld
//	                                             waiters stay
//	loading its data                             "loading"; kept if that ends in time       TestLoading, TestRefusals
//	wrong password, or it is changed             "password", never shown, rarely tried;     TestWrongPassword, TestUnavailable,
//	                                             waiters end                                TestRefusedWhileHeld
//	a right is missing, or taken away            "permission"; waiters end                  TestMinimalRights, TestUnavailable,
//	                                                                                        TestRefusedWhileHeld
//	no agreement on TLS                          "tls"                                      TestTLS
//	the clock of Redis is set by an hour         fences rise; set forward, all holds end    TestClockOfRedisSet
//	failover, the grant was replicated           kept                                       TestSentinelHistory
//	failover, the grant was missed               told by the deadline; the fence rises;     TestSentinelFailover,
//	                                             granted again within seconds               TestSentinelHistory
//	too few replicas confirm                     given back, ErrNotReplicated               TestWaitReplicas
//	faults at random                             one holder at a time, fences rise:         TestHistoryVirtual, TestHistoryReal;
//	                                             checked with porcupine                     TestLockUnderRedisFaults in testcluster
//	Redis down under an agent                    gossip and page go on, and say so          TestRedisDown, TestRedisRefusesForAReason
//	                                                                                        in testcluster
//	`peer lock` is killed, stopped, its Redis    COMMAND and its children are dead before   TestLockDeadBeforeTheNext,
//	 cut, while COMMAND traps TERM               the next begins                            in cmd/peer
//	`peer lock`, its guard or COMMAND is         the next begins at once then: another      TestKills in cmd/peer,
//	 killed, at any moment                       process released it (Handle)               TestHandle
//	a client that locks over HTTP is killed      given back when its connection ends, or    TestKilledOverHTTP in cmd/peer
//	                                             after its time to live
//	its terminal is closed                       COMMAND ends, and the lock with it; or it  TestLockTerminalClosed in cmd/peer,
//	                                             does not care, and the lock stays          TestLockTerminalClosedOnStubbornCommand
//
// # How it is kept
//
// Everything a lock has is in one hash slot, and every step is one script, named
// after what it does in this directory:
//
//	PREFIX{NAME}     id|fence|since|meta of the one that holds it, expires by itself
//	PREFIX{NAME}:f   the last fence; it stays, 100 bytes for each name ever used
//	PREFIX{NAME}:q   the queue: ids by place
//	PREFIX{NAME}:w   what the waiters are, until when they count, how to call them
//	PREFIX{NAME}:h   the holds of those who share it, by their end
//
// An id names one attempt of one client, so that a script may be sent again: an
// answer that was lost, a connection that broke, a script cache that was flushed
// leave nothing behind and take nothing twice. Only the clock of Redis is asked
// for a time, and only by Redis; the clocks of hosts may be wrong by hours.
//
// A process has one subscription, opened by its first waiter or by a hold that
// lasts: there it is called. While it waits it says so every half claim, all its
// waiters for one lock in one call. A lock is renewed when less than two thirds of
// its time to live are left, on connections of their own, so that no load can hold
// renewals up, and all of a process that are due at about one time in one round
// trip. When Redis is away, a client dials about once a second and no more.
//
// What many goroutines ask at the same moment of a Redis that is near is sent
// together: takes and releases as one script, on a Cluster as a pipeline.
//
// # Rights and versions
//
// Redis 6 or later, or Valkey; a Cluster needs Redis 7, for its sharded channels.
// A user that may use locks, and nothing else, on Redis 7:
//
//	ACL SETUSER peer on >SECRET ~peer:* &peer:* +ping +eval +evalsha +script|load
//	    +get +set +getset +del +exists +pexpire +pttl +time +zadd +zrem +zrange
//	    +zrank +zscore +zpopmin +zcard +zremrangebyscore +hget +hset +hdel +hmget
//	    +publish +subscribe +scan +select
//
// On a Cluster also +spublish +ssubscribe +cluster|slots. With WaitReplicas also +wait.
// With QuietAfterStart also +info. A Sentinel's user needs &* +subscribe +ping
// +sentinel|get-master-addr-by-name +sentinel|sentinels. Redis 6.0 knows no rights
// to channels: leave out what begins with &. +scan is for List, +select for a
// database number in the URL, +script|load saves a round trip after a restart.
//
// The tests were run against Redis 6.0.20, 7.0.15 and 7.4.1 and Valkey 8.0.1; they
// use the redis-server on the PATH.
package lockclient
