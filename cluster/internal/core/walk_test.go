package core

import (
	"encoding/binary"
	"fmt"
	"hash/maphash"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"
)

// The walk tries all orders in which what happens in a small cluster can happen:
// messages arrive, are lost, come twice or overtake one another; one instance
// crashes, one is accused wrongly, one is taken out wrongly, and time passes. A
// cluster is a few cores and what is on its way between them.

// walkEvent is something on its way. in is what core to takes in; with in nil, to dials
// peer, or exchanges tables with it.
type walkEvent struct {
	to, peer int
	in       Input
	probe    bool
	exchange bool
}

func (e walkEvent) String() string {
	switch {
	case e.exchange:
		return fmt.Sprintf("%d exchanges tables with %d", e.to, e.peer)
	case e.in == nil:
		return fmt.Sprintf("%d dials %d", e.to, e.peer)
	}
	if n, ok := e.in.(News); ok {
		return fmt.Sprintf("%d takes in that %d is %s", e.to, index(n.Recs[0].ID), formatRec(&n.Recs[0]))
	}
	return fmt.Sprintf("%d takes in %+v", e.to, e.in)
}

// message says whether e is a datagram, which may be lost or come twice.
func (e walkEvent) message() bool {
	switch e.in.(type) {
	case VoteIn, News:
		return true
	}
	return false
}

// budget is what may still happen in a cluster.
type budget struct{ crashes, accusations, verdicts, losses, copies, ticks uint8 }

type cluster struct {
	cores  []*Core // nil: crashed
	now    time.Duration
	queue  []walkEvent
	left   budget
	spent  budget
	alive  []uint64 // of each instance the epochs, as bits, in which it was alive by its own word
	epochs []uint64 // and its own epoch, or its last
}

// newCluster returns n cores that know one another, with all streams open. The last
// two have one name.
func newCluster(n int, left budget) *cluster {
	w := &cluster{now: time.Hour, left: left, alive: make([]uint64, n), epochs: make([]uint64, n)}
	recs := tableOf(n)
	if n > 3 {
		recs[n-1].Name = recs[n-2].Name
	}
	for i := range n {
		c := New(Config{Self: recs[i], ForgetAfter: time.Hour, Seed: uint64(i)}, w.now)
		c.Step(w.now, Table{From: recs[(i+1)%n].ID, Recs: recs})
		for j := range n {
			c.Step(w.now, Record{Peer: recs[j].ID, Number: 1})
			c.Step(w.now, Up{Peer: recs[j].ID, Out: true})
		}
		w.cores = append(w.cores, c)
		w.alive[i], w.epochs[i] = 1<<1, 1
	}
	return w
}

func index(id ID) int { return int(id - firstID) }

// do lets core i do f, and takes in what comes of it.
func (w *cluster) do(i int, f func(c *Core) *Output) {
	c := w.cores[i]
	if c == nil {
		return
	}
	out := f(c)
	for _, s := range out.Sends {
		for _, to := range s.To {
			e := walkEvent{to: index(to)}
			switch m := s.Msg.(type) {
			case Vote:
				e.in = VoteIn{m}
			case News:
				e.in = m
			default:
				continue // records of tags are not walked
			}
			w.queue = append(w.queue, e)
		}
	}
	for _, d := range out.Dials {
		w.queue = append(w.queue, walkEvent{to: i, peer: index(d.Peer), probe: d.Probe})
	}
	for _, d := range out.Contacts {
		e := walkEvent{to: i, peer: index(d.Peer), exchange: true}
		if !slices.ContainsFunc(w.queue, func(o walkEvent) bool { return o.exchange && o.to == e.to && o.peer == e.peer }) {
			w.queue = append(w.queue, e)
		}
	}
	w.epochs[i] = c.self.Epoch
	if c.self.State == Alive {
		w.alive[i] |= 1 << (c.self.Epoch & 63)
	}
}

func (w *cluster) step(i int, in Input) {
	w.do(i, func(c *Core) *Output { return c.Step(w.now, in) })
}

// deliver lets e arrive.
func (w *cluster) deliver(e walkEvent) {
	id := func(i int) ID { return firstID + ID(i) }
	c, other := w.cores[e.to], (*Core)(nil)
	if c == nil {
		return
	}
	if e.in == nil {
		other = w.cores[e.peer]
	}
	switch {
	case e.in != nil:
		w.step(e.to, e.in)
	case e.exchange:
		if other != nil {
			mine, its := c.Table(nil), other.Table(nil)
			w.step(e.to, Table{From: id(e.peer), Recs: its})
			w.step(e.peer, Table{From: id(e.to), Recs: mine})
		}
	case other == nil:
		w.step(e.to, Dialled{Peer: id(e.peer), Result: Refused})
	case e.probe:
		w.step(e.to, Dialled{Peer: id(e.peer), Result: Answered})
	default:
		w.step(e.to, Up{Peer: id(e.peer), Out: true})
		w.step(e.peer, Up{Peer: id(e.to)})
	}
}

func (w *cluster) tick() {
	w.now += TickEvery
	for i, c := range w.cores {
		if c == nil {
			continue
		}
		var links []Link
		for _, p := range c.partners {
			if w.cores[index(p.ID)] != nil {
				links = append(links, Link{Peer: p.ID, Heard: w.now, Out: true})
			}
		}
		w.step(i, Tick{Links: links})
	}
}

func (w *cluster) crash(i int) {
	w.cores[i] = nil
	for j, c := range w.cores {
		if c != nil {
			w.queue = append(w.queue, walkEvent{to: j, in: Broke{Peer: (firstID + ID(i))}})
		}
	}
}

// wrongly lets core i act on member j by f, as if it had reason to.
func (w *cluster) wrongly(i, j int, f func(c *Core, r *row)) {
	w.do(i, func(c *Core) *Output {
		c.now = w.now
		c.out.reset()
		if r := c.rows[(firstID + ID(j))]; r.watch != nil {
			f(c, r)
		}
		c.settle()
		return &c.out
	})
}

// actions calls f with each thing that can happen next, in a cluster of its own, until
// f returns false.
func (w *cluster) actions(f func(what func() string, next *cluster) bool) {
	try := func(what func() string, can uint8, pay func(b *budget) *uint8, act func(n *cluster)) bool {
		if can == 0 {
			return true
		}
		n := w.clone()
		if pay != nil {
			*pay(&n.left)--
			*pay(&n.spent)++
		}
		act(n)
		return f(what, n)
	}
	say := func(s string) func() string { return func() string { return s } }
	for k, e := range w.queue {
		take := func(n *cluster) { n.queue = slices.Delete(n.queue, k, k+1) }
		if e.in == nil && slices.ContainsFunc(w.queue[:k], func(o walkEvent) bool {
			return o.in == nil && o.to == e.to && o.peer == e.peer && o.exchange == e.exchange
		}) {
			continue
		}
		lossy := uint8(0)
		if e.message() {
			lossy = 1
		}
		if !try(e.String, 1, nil, func(n *cluster) { take(n); n.deliver(e) }) ||
			!try(func() string { return "lost: " + e.String() }, lossy*w.left.losses, func(b *budget) *uint8 { return &b.losses }, take) ||
			!try(func() string { return "once more: " + e.String() }, lossy*w.left.copies, func(b *budget) *uint8 { return &b.copies }, func(n *cluster) { n.deliver(e) }) {
			return
		}
	}
	_ = try(say("tick"), w.left.ticks, func(b *budget) *uint8 { return &b.ticks }, (*cluster).tick) &&
		try(say("0 crashes"), w.left.crashes, func(b *budget) *uint8 { return &b.crashes }, func(n *cluster) { n.crash(0) }) &&
		try(say("1 does not hear 2"), w.left.accusations, func(b *budget) *uint8 { return &b.accusations }, func(n *cluster) {
			n.wrongly(1, 2, func(c *Core, r *row) { c.say(r, Silent) })
		}) &&
		try(say("1 takes 2 out"), w.left.verdicts, func(b *budget) *uint8 { return &b.verdicts }, func(n *cluster) {
			n.wrongly(1, 2, func(c *Core, r *row) { c.verdict(r, Failed, Crashed) })
		})
}

// check returns what must never be, at any time.
func (w *cluster) check(before *cluster) error {
	for i, c := range w.cores {
		if c == nil {
			continue
		}
		eligible := map[string]int{}
		for _, r := range c.byID {
			j := index(r.ID)
			switch old := before.cores[i].rows[r.ID]; {
			case old.worse(&r.Rec):
				return fmt.Errorf("%d goes back from %s to %s about %d", i, formatRec(&old.Rec), formatRec(&r.Rec), j)
			case r.Epoch > w.epochs[j]:
				return fmt.Errorf("%d holds %s of %d, whose own epoch is %d", i, formatRec(&r.Rec), j, w.epochs[j])
			case r.State == Alive && w.alive[j]>>(r.Epoch&63)&1 == 0:
				return fmt.Errorf("%d holds %d alive in epoch %d, which it never said itself", i, j, r.Epoch)
			case r.State != Alive && w.cores[j] != nil && w.spent.verdicts == 0 && w.spent.crashes == 0:
				return fmt.Errorf("%d takes %d out on one voice", i, j)
			}
			if r.shown && r.seen == Alive && !r.shadowed {
				if eligible[r.Name]++; eligible[r.Name] > 1 {
					return fmt.Errorf("%d has two eligible members of the name %s", i, r.Name)
				}
			}
		}
		// A Step ends with all names and addresses settled, and its hash in step.
		var sum uint64
		for _, r := range c.byID {
			sum += r.sum()
		}
		if sum != c.hash || len(c.touched) != 0 {
			return fmt.Errorf("%d has its hash out of step", i)
		}
	}
	return nil
}

// settleDown lets all arrive, and tables be exchanged, and returns whether all views
// are the same then, and right.
func (w *cluster) settleDown() error {
	drain := func() error {
		for n := 0; len(w.queue) > 0; n++ {
			if n == 3_000 {
				return fmt.Errorf("never quiet: %v", w.queue[0])
			}
			e := w.queue[0]
			w.queue = slices.Delete(w.queue, 0, 1)
			w.deliver(e)
		}
		return nil
	}
	for round := range 3 {
		if err := drain(); err != nil {
			return err
		}
		for range int(askWait/TickEvery) + 1 {
			w.tick()
			if err := drain(); err != nil {
				return err
			}
		}
		for i := range w.cores {
			for j := range i {
				if round < 2 && w.cores[i] != nil && w.cores[j] != nil {
					w.deliver(walkEvent{to: i, peer: j, exchange: true})
				}
			}
		}
	}
	var first *Core
	for i, c := range w.cores {
		if c == nil {
			continue
		}
		if first == nil {
			first = c
		}
		for j := range w.cores {
			id := (firstID + ID(j))
			a, _ := first.Shown(id)
			b, _ := c.Shown(id)
			if a.Shown != b.Shown || a.Why != b.Why || a.Epoch != b.Epoch || a.Shadowed != b.Shadowed {
				return fmt.Errorf("two views of %d for good: %s, and %s in that of %d", j, formatRec(&a.Rec), formatRec(&b.Rec), i)
			}
			switch own := w.cores[j]; {
			case own == nil && b.Shown != Failed:
				return fmt.Errorf("%d has %d, which is dead, as %s", i, j, formatRec(&b.Rec))
			case own != nil && own.self.State != Alive && own.own.need > 0 && w.spent.verdicts+w.spent.accusations > 1:
				// Taken out wrongly twice, it waits before it comes back.
			case own != nil && b.Shown != Alive:
				return fmt.Errorf("%d has %d, which is well, as %s", i, j, formatRec(&b.Rec))
			case own != nil && own.self.worse(&b.Rec):
				return fmt.Errorf("%d holds %s of %d, which says %s", i, formatRec(&b.Rec), j, formatRec(&own.self.Rec))
			}
		}
	}
	return nil
}

// walker walks to ever greater depth until its time is over.
type walker struct {
	seen      map[uint64]uint8 // worlds, and how deep they were walked on from
	seed      maphash.Seed
	buf       []byte
	deadline  time.Time
	over      bool
	steps     int
	path      []func() string
	violation error
}

// walk looks at all worlds within depth of w.
func (k *walker) walk(w *cluster, depth uint8) {
	if k.over = k.over || k.steps%64 == 0 && time.Now().After(k.deadline); k.over {
		return
	}
	h := k.hash(w)
	if d, ok := k.seen[h]; ok && d >= depth+1 {
		return
	}
	k.seen[h] = depth + 1
	if depth == 0 {
		if err := w.clone().settleDown(); err != nil {
			k.fail(err)
		}
		return
	}
	w.actions(func(what func() string, next *cluster) bool {
		k.steps++
		k.path = append(k.path, what)
		if err := next.check(w); err != nil {
			k.fail(err)
		} else {
			k.walk(next, depth-1)
		}
		k.path = k.path[:len(k.path)-1]
		return !k.over
	})
}

func (k *walker) fail(err error) {
	var path strings.Builder
	for _, what := range k.path {
		path.WriteString("\n\t" + what())
	}
	k.over, k.violation = true, fmt.Errorf("%w, after:%s", err, path.String())
}

func TestWalk(t *testing.T) {
	length := walkFor(t)
	for _, n := range []int{3, 4} {
		t.Run(fmt.Sprintf("%d cores", n), func(t *testing.T) {
			k := &walker{seed: maphash.MakeSeed(), deadline: time.Now().Add(length)}
			start := newCluster(n, budget{crashes: 1, accusations: 1, verdicts: 1, losses: 1, copies: 1, ticks: 2})
			complete, states := 0, 0
			for depth := uint8(1); !k.over && depth < 60; depth++ {
				k.seen = map[uint64]uint8{}
				k.walk(start, depth)
				if !k.over {
					complete, states = int(depth), len(k.seen)
				}
			}
			if k.violation != nil {
				t.Fatal(k.violation)
			}
			t.Logf("complete to depth %d, %d worlds; %d steps in all", complete, states, k.steps)
		})
	}
}

// The same inputs give the same outputs, and a copy of a cluster goes on as the cluster
// does: the walk relies on both.
func TestSameInputsSameOutputs(t *testing.T) {
	k := &walker{seed: maphash.MakeSeed()}
	for seed := range uint64(10) {
		g := rng(seed)
		a := newCluster(4, budget{1, 1, 1, 3, 3, 20})
		for range 60 {
			var next []*cluster
			pick := func(w *cluster) (out []*cluster) {
				w.actions(func(_ func() string, n *cluster) bool { out = append(out, n); return true })
				return out
			}
			next = pick(a)
			if len(next) == 0 {
				break
			}
			i := int(g.next() % uint64(len(next)))
			b := pick(a.clone())[i]
			a = next[i]
			if k.hash(a) != k.hash(b) || !reflect.DeepEqual(a.queue, b.queue) {
				t.Fatalf("seed %d: two runs of the same inputs differ", seed)
			}
		}
	}
}

// hash returns what tells w from another cluster: all that its future depends on, with
// times counted from now. Jitter is left out.
func (k *walker) hash(w *cluster) uint64 {
	b := k.buf[:0]
	num := func(n ...uint64) {
		for _, x := range n {
			b = binary.AppendUvarint(b, x)
		}
	}
	when := func(at ...time.Duration) {
		for _, x := range at {
			if x != 0 {
				x = w.now - x + 1
			}
			b = binary.AppendVarint(b, int64(x))
		}
	}
	flag := func(fs ...bool) {
		for _, f := range fs {
			x := byte(0)
			if f {
				x = 1
			}
			b = append(b, x)
		}
	}
	votes := func(vs []vote) {
		num(uint64(len(vs)))
		for _, v := range vs {
			num(uint64(v.from), uint64(v.says), v.epoch, v.seq)
			when(v.at)
		}
	}
	rec := func(r *Rec) { num(uint64(r.ID), r.Epoch, uint64(r.State), uint64(r.Cause), uint64(r.Level)) }
	b = append(b, w.left.crashes, w.left.accusations, w.left.verdicts, w.left.losses, w.left.copies, w.left.ticks)
	for _, c := range w.cores {
		if flag(c == nil); c == nil {
			continue
		}
		num(c.seq, c.hash)
		flag(c.cutOff)
		o := &c.own
		num(uint64(o.level), uint64(o.trouble), uint64(o.good))
		when(o.raised, o.clean, o.badSince, o.denied)
		b = binary.AppendVarint(b, int64(o.need))
		flag(o.out, o.blame)
		votes(o.votes)
		for _, r := range c.byID {
			rec(&r.Rec)
			flag(r.hot, r.shown, r.swimDead, r.hidden, r.conflict, r.shadowed, r.pendingAt > 0, r.watch != nil)
			num(uint64(r.seen), uint64(r.why))
			when(r.since, r.first, r.second, r.pendingAt, r.told, r.answered)
			if r.pendingAt > 0 {
				rec(r.pending)
			}
			votes(r.votes)
			if m := r.watch; m != nil {
				num(uint64(m.says))
				flag(m.succ, m.out, m.dialing, m.proven)
				when(m.since, m.heard, m.broke, m.at, m.told, m.dialed)
			}
		}
	}
	var sum uint64 // of what is on its way, in whatever order
	from := len(b)
	for _, e := range w.queue {
		b = b[:from]
		num(uint64(e.to), uint64(e.peer))
		flag(e.probe, e.exchange)
		switch in := e.in.(type) {
		case VoteIn:
			num(1, uint64(in.Vote.About), uint64(in.Vote.From), in.Vote.Epoch, in.Vote.Seq, uint64(in.Vote.Says))
			flag(in.Vote.Ask)
		case News:
			num(2, uint64(in.From))
			for i := range in.Recs {
				rec(&in.Recs[i])
			}
		case Broke:
			num(3, uint64(in.Peer))
		}
		sum += maphash.Bytes(k.seed, b[from:])
	}
	b = binary.BigEndian.AppendUint64(b[:from], sum)
	k.buf = b
	return maphash.Bytes(k.seed, b)
}

func (w *cluster) clone() *cluster {
	n := *w
	n.queue, n.alive, n.epochs = slices.Clone(w.queue), slices.Clone(w.alive), slices.Clone(w.epochs)
	n.cores = make([]*Core, len(w.cores))
	for i, c := range w.cores {
		if c != nil {
			n.cores[i] = c.clone()
		}
	}
	return &n
}

// clone returns a copy of c that shares nothing that changes.
func (c *Core) clone() *Core {
	n := *c
	n.out = Output{}
	rows := make([]row, len(c.byID))
	n.byID = make([]*row, len(c.byID))
	n.rows = make(map[ID]*row, len(c.byID))
	to := func(r *row) *row {
		if r == nil {
			return nil
		}
		at, _ := slices.BinarySearchFunc(c.byID, r.ID, compareID)
		return &rows[at]
	}
	all := func(rs []*row) []*row {
		out := make([]*row, 0, len(rs)+1)
		for _, r := range rs {
			out = append(out, to(r))
		}
		return out
	}
	for i, r := range c.byID {
		m := &rows[i]
		*m = *r
		m.votes = slices.Clone(r.votes)
		m.nextName, m.nextAddr = to(r.nextName), to(r.nextAddr)
		if r.watch != nil {
			watch := *r.watch
			m.watch = &watch
		}
		n.byID[i], n.rows[m.ID] = m, m
	}
	n.self = to(c.self)
	n.ring, n.missing, n.partners, n.hot, n.touched = all(c.ring), all(c.missing), all(c.partners), all(c.hot), all(c.touched)
	n.names, n.addrs, n.heirs = copied(c.names, to), copied(c.addrs, to), copied(c.heirs, all)
	n.own.votes = slices.Clone(c.own.votes)
	t := &n.contacts
	t.wanted, t.memory, t.order = slices.Clone(t.wanted), slices.Clone(t.memory), slices.Clone(t.order)
	t.unknown = copied(t.unknown, func(u *unknown) *unknown { v := *u; return &v })
	return &n
}

func copied[K comparable, V any](m map[K]V, f func(V) V) map[K]V {
	n := make(map[K]V, len(m))
	for k, v := range m {
		n[k] = f(v)
	}
	return n
}
