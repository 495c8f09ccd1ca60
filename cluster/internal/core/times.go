package core

import "time"

// All time constants of membership, each with its derivation. A figure marked
// (sim) comes from simulations of 16 to 300 members under loss, half-broken links
// and partitions.
const (
	// TickEvery is how often the owner steps the core with a Tick. A silence is
	// noticed at most one tick late, and five wake-ups a second cost an idle agent
	// less than its packets do.
	TickEvery = 200 * time.Millisecond

	// BeatEvery is how often a watch stream carries a beat: two beats may be lost
	// or late before silentAfter.
	BeatEvery = 750 * time.Millisecond

	// silentAfter is how long a partner may be silent. Two beats and a tick fit, so
	// that one beat that waits for TCP's first retransmission (200 ms) accuses
	// nobody. With a tick and two round trips a silent host leaves rotation in less
	// than two seconds.
	silentAfter = 1600 * time.Millisecond

	// redialAfter is the silence after which a partner is dialled anew: its stream
	// may be stalled while its host is well. It leaves 600 ms for the answer.
	redialAfter = time.Second

	// crashWait is how long the partners may take to contradict the kernel's word
	// that a process is gone: a few round trips in one site.
	crashWait = 100 * time.Millisecond

	// silenceWait is how long they may take to contradict silence: a tick, for they
	// may just be about to notice it themselves, and a few round trips.
	silenceWait = 300 * time.Millisecond

	// doubtWait is how long they may take to contradict a peer that is out of rotation
	// itself: of five answers to one that loses four packets of five, one comes.
	doubtWait = 2 * time.Second

	// askWait is how long a member, and those who watch it, may take to contradict
	// a verdict of SWIM or of a table exchange: three tries of its answer.
	askWait = time.Second

	// buryAfter is how long nobody may have heard a suspect before its partners fail it
	// without SWIM's verdict, which is late where most members are dead: each of them
	// makes SWIM's next ping slower. It is several times what SWIM takes else.
	buryAfter = 30 * time.Second

	// askAgain is how often that question is repeated while SWIM and the partners
	// disagree: with askWait less than voteLife, or the last answers lapse before
	// the next come.
	askAgain = 3 * time.Second

	// voteLife is how long a vote counts. Its sender renews it every renewEvery, so
	// that one may be lost.
	voteLife   = 5 * time.Second
	renewEvery = 2 * time.Second

	// tellEvery is how often a member that is out of rotation, and that is heard
	// here, is told so.
	tellEvery = time.Second

	// relapseWithin is how long a member must stay in rotation until its next
	// return is free again. (sim)
	relapseWithin = 300 * time.Second

	// cleanFirst is how long all must have been well before the second return; it
	// doubles with every further relapse, up to cleanMost. It must exceed the 20 s
	// for which a flapping link may be well between two outages.
	cleanFirst = 30 * time.Second
	cleanMost  = 300 * time.Second

	// unheardFor is how long nobody may have heard a member that was damped before
	// SWIM's verdict on it counts: until then it may be half broken, and would be
	// failed and suspect by turns. (sim)
	unheardFor = 60 * time.Second

	// proveEvery is how often a partner tries whether the address of a member that it
	// hears can be dialled, until it could.
	proveEvery = 5 * time.Second

	// massWithin: when a third of the ring goes out of rotation within this time, the
	// network broke: all partners notice it within two beats, and decide.
	massWithin = 3 * time.Second

	// splitWithin is how long after such a break the other side may have taken this
	// peer out, or failed it: SWIM's verdict comes some ten seconds later.
	splitWithin = 20 * time.Second

	// denyEvery is how often a peer contradicts that it is gone.
	denyEvery = time.Second

	// stallWithin is how soon after this peer was held up an accusation is put down
	// to that: the silence that was noticed, a vote and its answer.
	stallWithin = 3 * time.Second

	// stalledAfter is when a beat without its echo counts as held up: more than
	// TCP's first retransmission and a round trip.
	stalledAfter = 250 * time.Millisecond

	// hopelessAfter is when a beat without its echo no longer tells of lost packets but
	// of a stream that is as good as broken: TCP_USER_TIMEOUT ends it then.
	hopelessAfter = 2500 * time.Millisecond

	// lossyTicks is the time constant of the share of held-up time, in ticks: 6 s.
	lossyTicks = 30

	// Shares of time in 1/1024: a link is bad above lossyAbove, for the median of
	// all partners, and good again below lossyBelow. Uniform loss of 30 % stays
	// below 0.37 almost always, and loss of 80 % one way above 0.5 in nine looks of
	// ten. (sim)
	lossyAbove = 512
	lossyBelow = 154
	// lateShare is the part of these shares that suffices for what comes from the
	// partners: it is late only after a beat and stalledAfter.
	lateShare = 3

	// muteAfter is how long most partners must accuse a peer that hears them.
	muteAfter = time.Second

	// recoverTicks is how many good ticks end a trouble that this peer noticed
	// itself.
	recoverTicks = 2

	// differsFor is how long two tables may differ before they are exchanged: what
	// has just happened is on its way. The time between two exchanges doubles from
	// there up to exchangeMost, and to perMember for each member, so that a table
	// that always differs, because something always happens, costs the same at any
	// size.
	differsFor   = time.Second
	exchangeMost = 5 * time.Second
	perMember    = 100 * time.Millisecond

	// blindAfter is how long no ping may be answered before tables are exchanged by
	// TCP without a hint that they differ: UDP is blocked.
	blindAfter = 15 * time.Second
	blindEvery = 30 * time.Second

	// A lost member is dialled again after firstRetry, doubling up to lastRetry. All
	// of them together get retryRate dials a second, and retryBurst at once: enough
	// to find ten members at a start without seeds, little enough beside 150 dead.
	firstRetry = 250 * time.Millisecond
	lastRetry  = 2 * time.Second
	retryRate  = 2
	retryBurst = 16

	// fetchAfter is how long a record may be on its way before its owner is asked
	// for it. It doubles up to exchangeMost, and never ends while the owner may answer.
	fetchAfter = 100 * time.Millisecond

	// unknownTries is how often an instance that only SWIM knows is contacted.
	unknownTries = 5

	// never is later than all times.
	never = time.Duration(1<<63 - 1)

	// replacedFor is how long a replaced or forgotten instance is remembered, so
	// that no late message brings it back: longer than any exchange is apart.
	replacedFor = time.Hour
)

const (
	// watchWidth is how many members a peer watches on either side of it on the
	// ring. Six partners still have a majority when two of them are gone.
	watchWidth = 3
	// walkLimit bounds how far a walk on the ring goes past suspects.
	walkLimit = 64
	// directSends is up to how many members everybody is told by datagram; beyond,
	// the partners share them out, and gossip repeats it.
	directSends = 64
	// toldBy is how many partners tell each member of a large cluster of a verdict:
	// one may be gone too, or its datagram lost.
	toldBy = 2
	// maxRetellings bounds the verdicts that are told twice.
	maxRetellings = 1_024
	// maxLive bounds the members that may be alive: forged records must not fill
	// the memory.
	maxLive = 16_384
	// maxGone bounds the departed; the longest gone go first.
	maxGone = 4_096
	// fetchBurst is how many records are asked for in one tick: a newcomer that lacks
	// those of thousands does not flood itself with their answers.
	fetchBurst = 64
	// maxVotes bounds the votes on one member.
	maxVotes = 16
	// maxUnknown bounds the instances known to SWIM alone.
	maxUnknown = 1_024
	// digestBeats is how many heartbeats travel with the answer to a ping.
	digestBeats = 64
)
