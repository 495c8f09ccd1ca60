// Package core decides who is alive. It is a state machine without I/O: it has
// no goroutine, lock, clock, logger, socket or global randomness. Its owner feeds
// it one Input at a time with the time at which it happened, and carries out what
// the Output says. The same inputs always give the same outputs, so that a whole
// cluster of cores can be simulated in one thread and replayed from a seed.
//
// # The rule
//
// Each start of a peer is an instance with a record, Rec. Two records of one
// instance are ordered by Epoch, and within an epoch by State: alive, suspect,
// failed, left, forgotten, replaced. The greater one wins, whoever brings it and
// in whatever order. Everybody may say that an instance is worse off than its
// record shows. Only the instance itself undoes that, by a record with a higher
// epoch. So tables that are exchanged become equal and stay so, and neither a
// time-out nor a lost message has an effect that lasts.
//
// # Who decides
//
// The members that may be alive form a ring, ordered by a hash of their instance.
// Three members on either side of a member are its partners: they share watch
// streams with it. A suspect, and one whose address refuses this peer, is passed
// over, and the next one is watched as well. A partner that does not hear a member
// accuses it, and tells the other partners. A partner that does hear it says so when
// it is asked, and when it hears it again while others doubt. What it heard before a
// stream broke counts no more.
//
//   - A majority of all partners decides at once.
//   - Two accusers decide after a short wait in which they asked again and again and
//     nobody said that it hears the member. A peer that is out of rotation itself, or
//     that hears few, waits for longer.
//   - If the address of a member refuses, one accuser is enough after a shorter wait,
//     and more accusers than hearers: its process is gone, or a firewall refuses. A
//     partner whose own address refuses this peer is not waited for. So a lone
//     survivor, whose partners are all gone, decides within a round trip.
//
// The decision is announced to everybody: in a large cluster each member is told by
// two of the neighbours of the one that went, and a tick later, when they know which
// of them went too, once more. Nobody else takes a member out of rotation, with three
// exceptions:
//
//   - the member itself, which is believed at once: it left, it hears nobody, it
//     loses packets, nobody hears it;
//   - SWIM's verdict, slow and sure, after the partners were asked, another one
//     does not hear the member either, and none does. That nobody answers proves
//     nothing, and a peer that is out of rotation itself decides nothing. A suspect
//     that nobody heard for buryAfter needs no verdict of SWIM's;
//   - a peer in doubt of its view, or whose own dials a member refuses, for its own
//     view alone and never for anybody else's.
//
// A peer doubts its view when it hears nobody, or fewer than half of its partners
// while it looks for more: most members may have died in one instant, and it cannot
// tell who is left. It looks twice as far along the ring with every tick until it
// hears three on either side. Until then it shows each member as suspect that gave
// no sign of life since. The doubt ends when it hears all its partners that are in
// rotation. It accuses as others do, but decides only when nobody contradicted for
// doubtWait, and its tables do not vouch for the members that it doubts.
//
// A verdict that comes in a table exchange may be old. If it accuses a member that
// is alive here, then that member is told first, and the verdict counts when no
// answer comes in askWait. A member's own word is no hearsay and counts at once. A
// member that is unknown here is taken as the table has it, and as suspect if the
// sender of the table does not vouch for it.
//
// A member that is heard and whose address nobody can dial is suspect, never
// failed, until somebody could dial it.
//
// # Damping
//
// A member that was taken out returns at once the first time. If it is taken out
// again soon after, it waits until all was well for a time that doubles with each
// relapse. It is not held to account when a third of the ring went out for it at the
// same time: then the network broke between them. The member itself keeps that time,
// because it alone may raise its epoch, and so every view shows the same.
//
// # Names
//
// A later start at the same address replaces the earlier one, and so does a start
// that names its predecessor. Of several live instances of one name the earliest
// is eligible, and all are marked. This follows from the set of records alone. An
// operator may forget what is shown as gone, or only remembered: a record says so to
// everybody, and the instance undoes it if it lives.
package core
