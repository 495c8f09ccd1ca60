package cluster

import (
	"net/netip"
	"time"
)

// Gossip may pass somebody by. memberlist mends that with push/pull, an exchange
// of the whole table with a random member on a timer, of some 117 bytes a member
// each way: among 512 as much as all packets together, and in a quiet cluster not
// one byte of it is news. So here a peer first asks whether there is anything to
// mend: each ack carries the sender's roster, which says in 8 bytes whom it holds
// alive and which of their records it has. Who finds that it differs from several
// in turn exchanges tables with the last of them, within seconds and at any size.

const (
	// fullExchange is memberlist's own timer, for what no roster tells: who has
	// failed and who left. It doubles above 32 members and then with each doubling.
	fullExchange = 5 * time.Minute
	// oddAcks is how many more acks must bring another roster than bring this
	// peer's own: what has just happened is on its way to some.
	oddAcks = 3
	// rosterEvery is the least time between two exchanges for the sake of rosters
	// that differ: a second a member, so that a difference which no exchange mends
	// costs the same at any size, and at least this.
	rosterEvery = 30 * time.Second
)

// roster is a hash of the members that memberlist holds alive and of the numbers
// of the records that this peer has of them. The caller holds c.mu.
func (c *Cluster) roster() uint64 {
	var sum uint64
	for _, r := range c.rows {
		if r.swim {
			sum += ringHash(r.m.Instance + Instance(ringHash(Instance(r.number))))
		}
	}
	return sum
}

// compare takes in the roster of r, which has just answered a ping. The caller
// holds c.mu.
func (c *Cluster) compare(r *row, theirs uint64, now time.Time) {
	if theirs == c.roster() {
		c.odd = max(c.odd-1, 0)
		return
	}
	if c.odd++; c.odd >= oddAcks && now.Sub(c.compared) >= max(rosterEvery, time.Duration(len(c.rows))*time.Second) {
		c.compareNotes(r.m.Addr, now)
	}
}

// compareBlindly exchanges tables with anybody while UDP is blocked: then nothing
// else brings news of others. The caller holds c.mu.
func (c *Cluster) compareBlindly(now time.Time) {
	if now.Sub(c.compared) < rosterEvery || !c.udpBlocked(now) {
		return
	}
	for _, a := range c.someLive(1) {
		c.compareNotes(a, now)
	}
}

// compareNotes exchanges tables with the peer at addr. The caller holds c.mu.
func (c *Cluster) compareNotes(addr netip.AddrPort, now time.Time) {
	c.compared, c.odd = now, 0
	c.spawn(func() { _ = c.exchange(addr) })
}
