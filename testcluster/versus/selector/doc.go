// Command selector measures package selector beside the balancers of other
// libraries, in one run, in turn. It prints three tables: what a pick costs, what
// a change of the peers costs, and how evenly turns fall while peers come and go.
//
//	cd testcluster/versus
//	go run ./selector                    # everything, about two minutes
//	go run ./selector -rows rr,key       # some of the picks
//	go run ./selector -n 3 -md           # three rounds, as Markdown
//
// # Picks
//
// Of 100 peers, by one goroutine and by two; the figure of two is the time by the
// clock over all picks, so that one that scales shows half. Each is called by a
// loop of its own, without an interface between. A round's figure is the least of
// ten tries: what else the machine does can only make one longer. Allocations are
// those of one pick.
//
//   - floor: an index that its goroutine owns, over a slice that never changes;
//     cursor is ours, which follows changes;
//   - rr, each in turn: atomic is a counter over a snapshot, mutex an index over a
//     slice; round_robin is the picker of gRPC, with its pick_first children, over
//     connections that are always ready; go-kit's is asked for the endpoint and
//     does not call it;
//   - weighted: shares from 1 to 4. gRPC's weighted_round_robin has had load
//     reports that say so, and kratos's wrr has them as metadata;
//   - two, the less loaded of two: a pick alone, and one that is ended (ours Take
//     and Done, kratos Select and done);
//   - key: keys of 12 to 13 bytes in turn. buraksezer/consistent has 10,007
//     partitions, load 1.25 and xxhash; kkdai/maglev a table of 65,537. Ours
//     bounds the load by turns in hand: once with none, once with four a peer.
//
// # Updates
//
// One of N peers leaves and another one joins; the whole list is given, as who
// watches a service gets it; a round's figure is the median of all that were
// done in it. consistent and maglev are told Remove and Add. What
// would take a minute to set up, gRPC's and theirs at 10,000, is not run.
//
// # Quality
//
// 100 peers stay, one more joins or leaves every 37 picks, 200,000 picks. max/min
// is of the turns of those that stay, the wait the longest of one of them in
// picks, the share what the one that comes and goes got of what is fair.
//
// Figures of time are medians over the rounds, with the least and the most. They
// depend on the machine, and on what else runs on it: the load is printed with
// them.
package main
