package core

import (
	"net/netip"
	"slices"
	"strings"
	"time"
)

// contacts decides with whom to exchange tables: with those that are lost, for the
// whole life of the peer, and with one whose table differs.
type contacts struct {
	joined  bool
	tokens  int // of dials, in milliseconds' worth
	at      time.Duration
	turn    int // where the last round ended
	wanted  []ID
	memory  []memory
	unknown map[ID]*unknown
	order   []ID // of unknown

	differs time.Duration // since when other tables differ, 0 if they do not
	wait    time.Duration // between two exchanges
	next    time.Duration
	acked   time.Duration
	blind   time.Duration // when tables are exchanged next without an answered ping
}

// memory is a peer of an earlier run that was not seen since.
type memory struct {
	Memory
	retry retry
}

// unknown is an instance that SWIM knows and no table brought.
type unknown struct {
	addr  netip.AddrPort
	since time.Duration
	retry retry
}

// retry is when a lost member is dialled next.
type retry struct {
	tries int
	next  time.Duration
}

func (r *retry) tried(c *Core) {
	wait := min(firstRetry<<min(r.tries, 8), lastRetry)
	r.tries++
	r.next = c.now + c.rng.jitter(wait)
}

const tokenCost = 1000 / retryRate

func (t *contacts) start(now time.Duration) {
	t.tokens, t.at, t.acked = retryBurst*tokenCost, now, now
	t.wait, t.unknown = differsFor, map[ID]*unknown{}
}

// token takes what one dial costs, if it is there.
func (t *contacts) token() bool {
	if t.tokens < tokenCost {
		return false
	}
	t.tokens -= tokenCost
	return true
}

// remember takes in the peers of an earlier run.
func (t *contacts) remember(peers []Memory) {
	for _, p := range peers {
		t.memory = append(t.memory, memory{Memory: p})
	}
}

// unseen returns the peers of an earlier run that were not seen since.
func (t *contacts) unseen() []Memory {
	out := make([]Memory, 0, len(t.memory))
	for _, m := range t.memory {
		out = append(out, m.Memory)
	}
	return out
}

func (t *contacts) remembers(name string) bool {
	return slices.ContainsFunc(t.memory, func(m memory) bool { return m.Name == name })
}

func (t *contacts) forget(name string) {
	t.memory = slices.DeleteFunc(t.memory, func(m memory) bool { return m.Name == name })
}

// met takes in that tables were exchanged with from.
func (t *contacts) met(c *Core, from ID) {
	t.joined = true
	t.drop(from)
	if r := c.rows[from]; r != nil {
		r.retry = retry{}
	}
}

// heardOf takes in what SWIM says of an instance that no table brought yet.
func (t *contacts) heardOf(id ID, addr netip.AddrPort, dead bool, now time.Duration) {
	switch {
	case dead:
		t.drop(id)
	case t.unknown[id] == nil && len(t.order) < maxUnknown:
		t.unknown[id] = &unknown{addr: addr, since: now, retry: retry{next: now + differsFor}}
		t.order = append(t.order, id)
	}
}

func (t *contacts) drop(id ID) {
	if t.unknown[id] != nil {
		delete(t.unknown, id)
		t.order = slices.DeleteFunc(t.order, func(o ID) bool { return o == id })
	}
}

// want asks for an exchange with r soon.
func (t *contacts) want(_ *Core, r *row) {
	if !slices.Contains(t.wanted, r.ID) {
		t.wanted = append(t.wanted, r.ID)
	}
}

// soon makes everybody lost due at once.
func (t *contacts) soon(c *Core) {
	for _, r := range c.byID {
		r.retry = retry{}
	}
}

// ack takes in the answer to a ping: heartbeats, and whether the tables differ.
func (c *Core) ack(in Ack) {
	t := &c.contacts
	t.acked = c.now
	c.takeBeats(in.Beats)
	r := c.other(in.Peer)
	if r == nil {
		return
	}
	r.beatAt = c.now
	c.out.Heard = append(c.out.Heard, Beat{Peer: r.ID, Count: r.beat, Age: c.now})
	if in.Hash == c.hash {
		t.differs, t.wait, t.next = 0, differsFor, min(t.next, c.now+differsFor)
		return
	}
	if t.differs == 0 {
		t.differs = c.now
	}
	if c.now-t.differs >= differsFor && c.now >= t.next {
		c.exchange(r)
	}
}

// exchange asks for an exchange of tables with r, and sets when the next may be.
func (c *Core) exchange(r *row) {
	t := &c.contacts
	t.next = c.now + c.rng.jitter(t.wait)
	t.wait = min(2*t.wait, max(exchangeMost, time.Duration(len(c.byID))*perMember))
	c.out.Contacts = append(c.out.Contacts, Contact{Peer: r.ID, Addr: r.Addr})
}

// lost says whether r is somebody to look for.
func (c *Core) lost(r *row) bool {
	switch {
	case r == c.self || r.State >= Left:
		return false
	case r.State == Failed || c.cutOff:
		return !c.taken(r.Addr)
	}
	return r.swimDead && r.State == Suspect
}

// taken says whether somebody in rotation has this address.
func (c *Core) taken(addr netip.AddrPort) bool {
	for r := c.addrs[addr]; r != nil; r = r.nextAddr {
		if r.State == Alive && (r == c.self || !c.cutOff) {
			return true
		}
	}
	return false
}

// contactDue looks for those that are lost, as far as the dials for that go.
func (c *Core) contactDue() {
	t := &c.contacts
	t.tokens = min(t.tokens+int((c.now-t.at)/time.Millisecond), retryBurst*tokenCost)
	t.at = c.now
	if c.self.State == Left {
		return
	}
	for _, id := range t.wanted {
		if r := c.rows[id]; r != nil && t.token() {
			c.out.Contacts = append(c.out.Contacts, Contact{Peer: id, Addr: r.Addr})
		}
	}
	t.wanted = t.wanted[:0]
	if c.now-t.acked > blindAfter && c.now >= t.blind { // no ping is answered: UDP may be blocked
		for _, r := range c.partners {
			if c.hears(r) {
				t.blind = c.now + c.rng.jitter(blindEvery)
				c.out.Contacts = append(c.out.Contacts, Contact{Peer: r.ID, Addr: r.Addr})
				break
			}
		}
	}
	c.contactUnknown()
	c.contactMemory()
	rows := c.missing
	if c.cutOff {
		rows = c.byID
	}
	for i, n := 0, len(rows); i < n; i++ {
		r := rows[(t.turn+i)%n]
		if c.now < r.retry.next || !c.lost(r) {
			continue
		}
		if !t.token() {
			t.turn = (t.turn + i) % n
			return
		}
		r.retry.tried(c)
		c.out.Contacts = append(c.out.Contacts, Contact{Peer: r.ID, Addr: r.Addr})
	}
}

func (c *Core) contactUnknown() {
	t := &c.contacts
	for _, id := range slices.Clone(t.order) {
		u := t.unknown[id]
		if c.rows[id] != nil || u.retry.tries > unknownTries {
			t.drop(id)
			continue
		}
		if c.now >= u.retry.next && t.token() {
			u.retry.tried(c)
			c.out.Contacts = append(c.out.Contacts, Contact{Peer: id, Addr: u.addr})
		}
	}
}

func (c *Core) contactMemory() {
	t := &c.contacts
	kept := t.memory[:0]
	for _, m := range t.memory {
		switch {
		case c.seen(m) || m.Left && t.joined || m.Absent > c.cfg.ForgetAfter:
			continue
		case c.now >= m.retry.next && m.Addr != c.self.Addr && t.token():
			m.retry.tried(c)
			c.out.Contacts = append(c.out.Contacts, Contact{Peer: m.ID, Addr: m.Addr})
		}
		m.Absent += TickEvery
		kept = append(kept, m)
	}
	t.memory = kept
}

// seen says whether a peer of an earlier run is in the table by now, itself or by
// a later start.
func (c *Core) seen(m memory) bool {
	for r := c.names[strings.ToLower(m.Name)]; r != nil; r = r.nextName {
		if r.Name == m.Name && (r.ID >= m.ID || r.State == Alive) {
			return true
		}
	}
	return false
}

// everybody returns whom this peer tells of itself: all that may hear it, the
// failed too, for they may just be back.
func (c *Core) everybody() []ID {
	to := make([]ID, 0, min(len(c.byID), directSends))
	for _, r := range c.ring {
		if len(to) == directSends {
			return to
		}
		if r != c.self {
			to = append(to, r.ID)
		}
	}
	for _, r := range c.missing {
		if r.State == Failed && len(to) < directSends {
			to = append(to, r.ID)
		}
	}
	return to
}
