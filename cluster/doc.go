// Package cluster answers one question: who is alive? It makes a host a member
// of a cluster by gossip, without servers, and tells every change once, in order.
//
// Start returns a running Cluster. View is the table as this peer sees it, an
// immutable picture that costs a reader nothing; Config.OnEvent hears each
// change after the View shows it. The package knows nothing of what members are
// good for: no turns, no locks, no HTTP.
//
// # What it adds to memberlist
//
// hashicorp/memberlist carries the gossip: SWIM with Lifeguard, LAN timing,
// push/pull. What it hides or gives up is kept here.
//
//   - A table of its own. memberlist shows suspects and leavers as alive, the
//     dead and the left alike, and hands out pointers into its table. Here a
//     member is alive, suspect, failed or left, with a cause and since when.
//   - Identity is a start, not a name. Members are NAME#INSTANCE to memberlist,
//     and instances are ordered in time, so a restart is a new member at once,
//     with the same address or another, and its predecessor is gone. Two live
//     peers of one name are both shown as a conflict; the first stays eligible.
//   - Two clocks of death. Out of rotation is quick and cheap to undo: watch
//     streams to three successors on a ring tell a crash in milliseconds and
//     silence in under two seconds, at a cost that does not grow. The verdict of
//     SWIM is slow and sure, and stays so: a process may pause for seconds and is
//     called failed by nobody. See judge in verdict.go for the whole rule.
//   - Never split for good. memberlist joins once and forgets the dead. A
//     reconciler redials, for the whole life of the peer, every seed, resolved
//     anew each time, and every member ever seen that is not alive, also across
//     restarts by way of the data dir.
//   - Tables are exchanged when they differ. A ping's answer says in 8 bytes which
//     members and records the other has, so that who was passed by finds out
//     within seconds, and a quiet cluster sends no tables. See roster.go.
//   - Records of any size for tags and services, beyond memberlist's 512 bytes.
//   - Heartbeat ages of everybody, everywhere, at no extra packet.
//   - Keys that change while it runs. The port encrypts, in memberlist's own
//     format; a rotation is one command that names the members that were absent,
//     and lets them back in with the old key for a while. See internal/keys.
//   - Messages that are read whole and checked before memberlist gets them, for
//     it takes memory by what they claim. See internal/port.
//   - A cause for every failed join. See internal/port.
//
// # What it promises, and what not
//
// What View shows is this peer's view. Two peers agree soon, not always: there
// is no consensus here, and a majority means a majority of the accused's
// partners, not of the cluster. Work that must not be done twice belongs under
// a lock (package lockclient), whatever this package says of its holder.
//
// In a cluster whose links take a millisecond, a killed process is failed
// everywhere after a few milliseconds, and a host without power is out of
// rotation after 1.6 s and failed after 4·max(1, log10 N) + 1.7 s in the median;
// among few somebody whom gossip passes by may call it suspect for half a minute
// longer. Nobody is called failed for a pause of 4.5 s, for 10 % of all packets
// lost, or for streams cut or refused between one pair.
//
// With a gossip key strangers are kept out: they can neither read nor forge nor
// fill the memory. Without one, whoever reaches the port can do the first two,
// which is why Config refuses a bind beyond loopback then.
//
// # On the wire
//
// One port, UDP and TCP: memberlist's packets and streams, and in the same
// streams, told apart by their first byte, our own. wire.go, notice.go,
// hello.go and internal/keys/wire.go have every byte of ours.
package cluster
