// Package cluster answers one question: who is alive? It makes a host a member
// of a cluster by gossip, without servers, and tells every change once, in order.
//
// Start returns a running Cluster. View is the table as this peer sees it, an
// immutable picture that costs a reader nothing. Config.OnEvent hears each change
// after the View shows it. The package does not know what members are good for: it
// has no turns, no locks and no HTTP.
//
// # What it provides
//
//   - A table of members that are alive, suspect, failed or left, each with a cause
//     and since when.
//   - Identity is a start, not a name. A restart replaces its predecessor at once,
//     at the same address or another. Two live peers of one name are both shown,
//     and the first stays eligible, in every view the same.
//   - Two clocks of death. A crash is seen in milliseconds and silence in under
//     two seconds, and both are cheap to undo. The final verdict is slow and sure.
//   - A cluster that finds together again, however long it was apart: every seed,
//     resolved anew, and every member that is lost are tried for as long as the
//     peer lives, and after a restart by way of the data dir.
//   - Tags and services of up to 64 KiB for each member.
//   - Heartbeat ages and round-trip times of all members.
//   - Keys that change while it runs: see Rotate.
//   - A cause in words for every join that fails, and warnings in Stats about what
//     is wrong with this peer itself.
//
// # The rule
//
// Package internal/core has the rule as a state machine, and its documentation has
// it whole. In short:
//
//  1. Each start of a peer has a record with an epoch and a state. Of two records
//     the higher epoch wins, and within an epoch the worse state.
//  2. Anybody may say that a member is worse off. Only the member itself undoes
//     that, with a higher epoch.
//  3. Six members, its neighbours on a ring, watch a member over streams. They
//     accuse it and they speak for it.
//  4. A majority of the six decides at once. Where it is close, they are asked, and
//     more accusers than hearers decide.
//  5. The decision is announced to everybody. Nobody else takes a member out of
//     every view.
//  6. The verdict of SWIM counts when those who were asked do not hear the member.
//  7. A member that notices its own trouble says so first, and is believed.
//  8. A member comes back at once the first time. After a relapse it must be well
//     for longer each time.
//  9. Two tables that differ are exchanged until they are equal. A verdict that is
//     old when it comes is first put to the member that it is about.
//  10. What is uncertain is never final: a time-out proves nothing for good.
//
// # What it promises, and what not
//
// A View is what this peer holds. Two peers agree soon, not always: there is no
// consensus, and a majority is one of the partners of a member, not of the
// cluster. Work that must not be done twice belongs under a lock (package
// lockclient), whatever this package says of the lock's holder.
//
// On links of a millisecond a killed process is out of every view within some
// milliseconds, and a host without power within two seconds. A pause
// of 4.5 s, 10 % of all packets lost, or streams cut between one pair make nobody
// failed. A member that is half broken for minutes, deaf, mute or lossy, changes
// its state at most four times in each view, and no healthy member is accused on
// its account.
//
// A View changes with an event or not at all. Up to 200 members each change has
// its View at once. In larger clusters the changes of a moment share one: 20 a
// second among 10,000 members.
//
// With a gossip key, strangers can neither read nor forge nor fill the memory.
// Without one, whoever reaches the port can read and forge, and what is forged
// about a member lasts until that member contradicts it. Config therefore refuses
// to bind beyond loopback without a key, unless Insecure is set.
//
// # On the wire
//
// One port, UDP and TCP. It carries memberlist's packets and streams, encrypted
// and checked by internal/port, and watch streams, told apart by their first byte.
// Every byte of this package's is described in wire.go, in internal/core/wire.go,
// internal/watch/wire.go and internal/keys/wire.go, and kept in golden files.
//
// Members announce the range of wire versions that they speak, and work together
// where the ranges overlap. What a later version adds is left alone: an unknown
// frame, bytes behind a frame that is known, a field of a record. Additions to a
// member's record are passed on.
//
// # Inside
//
// One goroutine owns the core. memberlist's callbacks, the watch streams and the
// methods of Cluster hand it inputs through a bounded queue; it takes in all that
// waits, publishes one View, and hands what the core wants sent, dialled or
// exchanged to other goroutines. It waits for neither memberlist nor a callback nor
// the log, and for a peer that does not read its stream 20 ms at most, so a slow
// OnEvent or a log that nobody reads delays no verdict. The
// documentation of Cluster lists its goroutines. Close waits for all of them.
package cluster
