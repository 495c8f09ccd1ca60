package core

import (
	"net/netip"
	"slices"
	"time"
)

// Config is what a Core knows from its start.
type Config struct {
	Self        Rec // ID, Prev, Name, Addr, Version, WireMin, WireMax
	Body        []byte
	Data        any
	ForgetAfter time.Duration // how long the departed are remembered
	Seed        uint64        // of the jitter; the same seed gives the same run
}

// Core is the table of one peer and all that it concludes from it. It is not safe
// for use by several goroutines: one owns it.
type Core struct {
	cfg  Config
	now  time.Duration
	self *row
	own  owner
	rng  rng
	out  Output

	rows    map[ID]*row
	byID    []*row                  // sorted by ID
	ring    []*row                  // those that may be alive, sorted by hash
	missing []*row                  // suspect or failed, sorted by ID
	names   map[string]*row         // in lower case, the first of a chain
	addrs   map[netip.AddrPort]*row // the first of a chain
	heirs   map[ID][]*row           // those that name an instance as their predecessor
	gone    int                     // rows that are out of the ring
	expires time.Duration           // when the first of them is to be dropped
	hash    uint64                  // of the table

	partners   []*row // that share watch streams with this peer
	ringMoved  bool
	hot        []*row // those that time alone may change
	fetches    int    // records that were asked for in this tick
	beatTurn   int    // the place in byID of the heartbeat that is sent on next
	seq        uint64 // of votes
	cutOff     bool
	cutAt      time.Duration // when that began
	dialTurn   int           // the place in partners of who is dialled next
	few        int           // for how many ticks few of the partners have been heard, 0 if enough are
	doubt      time.Duration // since when this peer has known that, 0 if it is sure of its view
	source     source
	retellings []retelling
	touched    []*row // names or addresses to settle after the input

	contacts contacts
	stats    Stats
}

// Stats are figures of a Core.
type Stats struct {
	Suspicions uint64 // members that left rotation in this view
	Flaps      uint64 // members that came back
	CutOff     bool   // nobody is heard
	Trouble    Cause  // what is wrong with this peer, by its own or the others' word
	Damped     time.Duration
	Partners   int
	Known      int // instances in the table
	Unseen     []Memory
	Joined     bool // a table was exchanged with another peer
}

// New returns a Core that knows only itself. now is the time on the clock of all
// later Steps, which may not run backwards.
func New(cfg Config, now time.Duration) *Core {
	c := &Core{
		cfg: cfg, now: now, rng: rng(cfg.Seed | 1),
		rows: map[ID]*row{}, names: map[string]*row{}, addrs: map[netip.AddrPort]*row{}, heirs: map[ID][]*row{}, expires: never,
	}
	rec := cfg.Self
	rec.Epoch, rec.State, rec.Number = max(rec.Epoch, 1), Alive, max(rec.Number, 1)
	r := c.insert(rec)
	r.body, r.data, r.number = cfg.Body, cfg.Data, rec.Number
	c.self = r
	c.contacts.start(now)
	c.show(r)
	return c
}

// Step takes in what happened at now.
func (c *Core) Step(now time.Duration, in Input) *Output {
	c.now = max(now, c.now)
	c.out.reset()
	switch in := in.(type) {
	case Tick:
		c.tick(in.Links)
	case Late:
		c.late(in.Gap)
	case Up:
		c.up(in.Peer, in.Out)
	case Heard:
		if r := c.other(in.Peer); r != nil {
			c.heard(r, c.now)
		}
	case SaidLeave:
		if r := c.other(in.Peer); r != nil && r.State < Left {
			c.edit(r, func() { r.State, r.Cause = Left, NoCause })
		}
	case Broke:
		c.broke(in.Peer)
	case Dialled:
		c.dialled(in.Peer, in.Result)
	case Swim:
		c.swim(in)
	case Ack:
		c.ack(in)
	case Beats:
		c.takeBeats(in.Beats)
	case VoteIn:
		c.takeVote(in.Vote)
	case News:
		c.takeNews(in)
	case Table:
		c.takeTable(in)
	case Record:
		c.takeRecord(in)
	case Number:
		if r := c.other(in.Peer); r != nil {
			c.announced(r, in.Number)
		}
	case SetRecord:
		c.setRecord(in)
	case Move:
		c.move(in)
	case Leave:
		c.leave()
	case Forget:
		c.forget(in.Name)
	case Remembered:
		c.contacts.remember(in.Peers)
	}
	for c.settle(); c.ringMoved; c.settle() {
		c.followRing() // whoever is watched no more may be shown otherwise
	}
	c.source = announced
	return &c.out
}

// First returns the Output of New: this peer itself is shown.
func (c *Core) First() *Output { return &c.out }

func (o *Output) reset() {
	o.Changes, o.Sends, o.Dials, o.Closes = o.Changes[:0], o.Sends[:0], o.Dials[:0], o.Closes[:0]
	o.Contacts, o.Heard, o.Logs, o.Stalled = o.Contacts[:0], o.Heard[:0], o.Logs[:0], 0
}

func (c *Core) tick(links []Link) {
	c.readLinks(links)
	c.listen()
	c.fetches = 0
	for i := 0; i < len(c.hot); i++ { // judge may add to it, and does not remove
		r := c.hot[i]
		c.fetchDue(r)
		if r.doubtful() {
			c.judge(r)
		}
	}
	c.hot = slices.DeleteFunc(c.hot, func(r *row) bool { r.hot = r.doubtful() || r.fetch.due > 0; return !r.hot })
	c.lookAtSelf()
	c.retell()
	c.contactDue()
	if c.now >= c.expires || c.gone > maxGone {
		c.sweep()
	}
}

// Stats returns the figures as they are now.
func (c *Core) Stats() Stats {
	s := c.stats
	s.CutOff, s.Trouble, s.Damped = c.cutOff, c.trouble(), c.own.damped(c.now)
	s.Partners, s.Known = len(c.partners), len(c.byID)
	s.Unseen, s.Joined = c.contacts.unseen(), c.contacts.joined
	return s
}

// other returns the row of another instance, nil if there is none.
func (c *Core) other(id ID) *row {
	if r := c.rows[id]; r != c.self {
		return r
	}
	return nil
}

func (c *Core) log(level LogLevel, text string, args ...any) {
	c.out.Logs = append(c.out.Logs, Log{level, text, args})
}

// rng is a small generator of its own, so that a run can be replayed.
type rng uint64

func (r *rng) next() uint64 {
	*r += 0x9e3779b97f4a7c15
	z := uint64(*r)
	z = (z ^ z>>30) * 0xbf58476d1ce4e5b9
	z = (z ^ z>>27) * 0x94d049bb133111eb
	return z ^ z>>31
}

// jitter spreads d by a quarter either way.
func (r *rng) jitter(d time.Duration) time.Duration {
	return d*3/4 + time.Duration(r.next()%uint64(d/2+1))
}
