// Command lock measures the lock of package lockclient beside those of other
// libraries, all against one real redis-server in one run, in turn. It prints a
// table with a line for each thing that was measured: ours, the others, the
// least that a lock without any promise costs (raw), how many times that ours
// takes, the bar that ours has to meet, and whether it does.
//
//	cd testcluster/versus
//	go run ./lock                        # everything, about five minutes
//	go run ./lock -rows pair-p50,allocs  # some rows
//	go run ./lock -list                  # which there are
//	go run ./lock -n 3 -md               # three rounds, as Markdown
//
// It starts redis-server itself, on a loopback port that is free, without
// persistence, and stops it. It needs Linux and redis-server on the PATH.
//
// # Who is measured, and how they are used
//
// Each as its documentation says, with the options recommended there, and with
// its own defaults where none are:
//
//   - ours: lockclient.Acquire and Release, time to live 15 s;
//   - redsync: one pool over go-redis, Lock and Unlock, expiry 8 s, a retry after
//     a random 50 to 250 ms, called again when its 32 tries are over;
//   - redislock: Obtain and Release over go-redis, time to live 15 s, retrying
//     every 100 ms (it does not retry without being told how);
//   - rueidislock: one locker, WithContext and its cancel, KeyMajority 1 and
//     NoLoopTracking, as recommended for one Redis of 7.0.5 or later, validity
//     5 s, extended every half of it. TryNextAfter is its default of 20 ms in the
//     rows of contention, hand-over and far, else 1 s: with the default it waits
//     for ever for a free lock as soon as an answer takes longer, which it does
//     now and then on a busy machine, and with 1 s many waiters may hang;
//   - raw: SET NX PX, and a script that compares and deletes, over go-redis; one
//     that waits tries again each millisecond. No renewal, no signal, no fence.
//
// A client is a whole one, with connections of its own, as a process would have.
//
// # The rows
//
//   - pair: one goroutine takes a free lock and gives it back; all products in
//     turn, pair by pair, so that they share whatever else the machine does. Under
//     a context that can end a call must be able to return before its answer is
//     there; the other rows of cost are under one that has no end;
//   - throughput: one client, 64 goroutines with a lock of their own each;
//   - contention: 64 clients on one lock. The index is Jain's, (Σx)²/(n·Σx²) of
//     how often each got it: 1 is fair, 1/n is one client all the time. Round
//     trips are what redis-server read from sockets (total_reads_processed);
//   - hand-over: 17 clients on one lock, 16 waiting: from just before the release
//     until another client has it;
//   - idle: 64 waiters while nothing happens, in one client or in one each: the
//     commands that clients send, and their connections beyond the holder's;
//   - gone: eight waiters of processes that were killed stand before one that
//     lives when the holder releases; away: two that were cut off just before,
//     by a proxy that holds all bytes back (time to live 3 s, so that a claim of
//     ours is 1 s);
//   - told: the holder is cut off at eight phases of its renewals (time to live
//     2 s): how long before the next one has the lock it was told, in the worst
//     case. Negative: after it;
//   - far: a free lock over a round trip of 120 ms, made by a proxy: the first
//     call of a new client, connecting included, and the second;
//   - allocs: heap allocations for an acquire and a release, of all goroutines.
//
// Figures are medians over the rounds, with the least and the most; the ratio is
// the median of the ratios within each round. They depend on the machine, and on
// what else runs on it: the load is printed with them.
package main
