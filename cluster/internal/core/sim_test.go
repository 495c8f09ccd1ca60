package core

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"
)

// world is a discrete-event simulation of many cores in one thread. Everything
// that happens is an event, ordered by time and then by number; the generator is
// its own, and no map is ranged over. So a seed gives the same run bit for bit,
// which trace proves.
type world struct {
	now    time.Duration
	number uint64
	queue  []event
	rng    rng
	net    network
	hosts  []*simHost
	byAddr map[netip.AddrPort]*simHost
	procs  []*simProc // all that ever ran

	trace   uint64 // a hash of all that happened
	steps   uint64
	version uint64 // grows with every change of what is shown
	sends   uint64 // core messages
	starts  uint64
	history []shownChange
	faulty  bool          // a fault of the network is there, or a process is paused
	faults  time.Duration // when there was one last, or somebody came or went
	healed  time.Duration // when the last fault of the network ended
	broken  []string      // invariants that did not hold
	verbose func(format string, args ...any)
}

// event is something that will happen.
type event struct {
	at     time.Duration
	number uint64
	do     func()
}

// shownChange is one change of what one peer shows of another.
type shownChange struct {
	at       time.Duration
	viewer   *simProc
	about    ID
	kind     ChangeKind
	from, to State
	cause    Cause
}

func newWorld(seed uint64) *world {
	w := &world{rng: rng(seed*0x9e3779b97f4a7c15 + 1), byAddr: map[netip.AddrPort]*simHost{}, trace: seed}
	w.net.w = w
	return w
}

func (e event) before(o event) bool {
	return e.at < o.at || e.at == o.at && e.number < o.number
}

// at plans f.
func (w *world) at(t time.Duration, f func()) {
	w.number++
	w.queue = append(w.queue, event{max(t, w.now), w.number, f})
	q := w.queue
	for i := len(q) - 1; i > 0; {
		up := (i - 1) / 2
		if !q[i].before(q[up]) {
			break
		}
		q[i], q[up] = q[up], q[i]
		i = up
	}
}

// after plans f in d.
func (w *world) after(d time.Duration, f func()) { w.at(w.now+d, f) }

// next carries out the next event that is due by end.
func (w *world) next(end time.Duration) bool {
	if len(w.queue) == 0 || w.queue[0].at > end {
		w.now = end
		return false
	}
	q := w.queue
	e := q[0]
	last := len(q) - 1
	q[0] = q[last]
	q[last] = event{}
	q = q[:last]
	w.queue = q
	for i := 0; ; {
		down := 2*i + 1
		if down >= len(q) {
			break
		}
		if down+1 < len(q) && q[down+1].before(q[down]) {
			down++
		}
		if !q[down].before(q[i]) {
			break
		}
		q[i], q[down] = q[down], q[i]
		i = down
	}
	w.now = e.at
	e.do()
	return true
}

// run lets d pass.
func (w *world) run(d time.Duration) {
	for end := w.now + d; w.next(end); {
	}
}

// until lets time pass until ok holds, for at most d, and says for how long. ok is
// asked whenever something that is shown changed.
func (w *world) until(d time.Duration, ok func() bool) (time.Duration, bool) {
	begin, end := w.now, w.now+d
	if ok() {
		return 0, true
	}
	seen, look := w.version, w.now
	for w.next(end) {
		if w.version != seen || w.now-look > 100*time.Millisecond {
			seen, look = w.version, w.now
			if ok() {
				return w.now - begin, true
			}
		}
	}
	return d, ok()
}

func (w *world) note(xs ...uint64) {
	t := w.trace ^ uint64(w.now)
	for _, x := range xs {
		t = mix(t*31 + x)
	}
	w.trace = t
}

// chance is true in n of 1000.
func (w *world) chance(n int) bool { return n > 0 && w.rng.below(1000) < n }

func (w *world) between(a, b time.Duration) time.Duration {
	return a + time.Duration(w.rng.next()%uint64(b-a+1))
}

func (w *world) breach(format string, args ...any) {
	text := fmt.Sprintf("%v: ", w.now) + fmt.Sprintf(format, args...)
	if len(w.broken) < 20 {
		w.broken = append(w.broken, text)
	}
	if w.verbose != nil {
		w.verbose("BREACH %s", text)
	}
}

// simHost is a machine with one address, on which one process at a time runs.
type simHost struct {
	w       *world
	index   int
	label   string
	addr    netip.AddrPort
	on      bool
	noRoute bool // nobody can reach its address; what it dials works
	noLink  bool // its interface is down
	lossIn  int  // of 1000
	lossOut int
	cut     []bool // to whom nothing gets
	proc    *simProc
	last    *simProc // the latest that ran
	disk    disk
}

// disk is what outlives a process.
type disk struct {
	name  string
	last  ID
	peers []Memory
	seeds []netip.AddrPort
}

func (w *world) host(label string) *simHost {
	for _, h := range w.hosts {
		if h.label == label {
			return h
		}
	}
	h := &simHost{w: w, index: len(w.hosts), label: label, on: true}
	h.addr = netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, byte(h.index / 250), byte(h.index%250 + 1)}), 7946)
	w.hosts = append(w.hosts, h)
	for _, o := range w.hosts {
		for len(o.cut) < len(w.hosts) {
			o.cut = append(o.cut, false)
		}
	}
	w.byAddr[h.addr] = h
	return h
}

// simProc is one run of a peer: a core and what stands around it.
type simProc struct {
	w       *world
	h       *simHost
	name    string
	id      ID
	core    *Core
	swim    *swimNode
	streams []*simStream
	born    time.Duration
	died    time.Duration
	gone    bool
	leaving bool
	paused  bool
	inbox   []func()
	due     time.Duration // when the next tick is due
	sends   uint64
}

// startOptions are those of one start.
type startOptions struct {
	name  string
	seeds []netip.AddrPort
	fresh bool          // the data directory is lost
	back  time.Duration // the wall clock went back
}

const (
	simLate   = 300 * time.Millisecond // a tick that is later than this was held up
	simForget = 72 * time.Hour
)

func (w *world) start(h *simHost, o startOptions) *simProc {
	if h.proc != nil {
		w.kill(h)
	}
	h.on = true
	w.starts++
	id := ID(1_700_000_000_000_000_000+int64(w.now-o.back)+1000*int64(w.rng.below(1000))) + ID(w.starts)
	if o.fresh {
		h.disk = disk{name: h.disk.name}
	}
	name := cmp.Or(o.name, h.disk.name, h.label)
	if len(o.seeds) == 0 {
		o.seeds = h.disk.seeds
	}
	prev := ID(0)
	if h.disk.name == name {
		prev = h.disk.last
		if id <= prev {
			id = prev + 1
		}
	}
	p := &simProc{w: w, h: h, name: name, id: id, born: w.now}
	w.procs = append(w.procs, p)
	h.proc, h.last = p, p
	w.disturb()
	h.disk.name, h.disk.last, h.disk.seeds = name, id, o.seeds
	p.core = New(Config{
		Self:        Rec{ID: id, Prev: prev, Name: name, Addr: h.addr, Version: "1", WireMin: 1, WireMax: 1},
		ForgetAfter: simForget, Seed: w.rng.next(),
	}, w.now)
	w.note(1, uint64(id))
	p.carryOut(p.core.First())
	if len(h.disk.peers) > 0 {
		p.step(Remembered{Peers: slices.Clone(h.disk.peers)})
	}
	p.swim = newSwim(p)
	p.join(o.seeds)
	p.due = w.now + w.between(0, TickEvery)
	w.at(p.due, p.do(p.tick))
	w.after(w.between(0, BeatEvery), p.do(p.beat))
	w.version++
	return p
}

// join calls the seeds until one answered, and now and then after that.
func (p *simProc) join(seeds []netip.AddrPort) {
	for _, a := range seeds {
		if a != p.h.addr {
			p.exchange(a)
		}
	}
	if len(seeds) == 0 {
		return
	}
	wait := time.Second
	if p.core.Stats().Joined {
		wait = 30 * time.Second
	}
	p.w.after(p.w.between(wait*9/10, wait), p.do(func() { p.join(seeds) }))
}

// do returns f as something that happens in p: not when it is gone, and later
// when it is paused.
func (p *simProc) do(f func()) func() {
	return func() {
		switch {
		case p.gone:
		case p.paused:
			p.inbox = append(p.inbox, f)
		default:
			f()
		}
	}
}

func (p *simProc) tick() {
	p.step(Tick{Links: p.links()})
	p.due = p.w.now + TickEvery
	p.w.at(p.due, p.do(p.tick))
}

// step feeds the core, after telling it if this process was held up.
func (p *simProc) step(in Input) {
	if gap := p.w.now - p.due; p.due > 0 && gap > simLate {
		p.due = p.w.now
		p.feed(Late{Gap: gap})
	}
	p.feed(in)
}

func (p *simProc) feed(in Input) {
	w := p.w
	w.steps++
	w.note(2, uint64(p.id), inputKind(in))
	p.carryOut(p.core.Step(w.now, in))
}

func inputKind(in Input) uint64 {
	switch in := in.(type) {
	case Tick:
		return 1 + uint64(len(in.Links))<<8
	case Heard:
		return 2 + uint64(in.Peer)<<8
	case Up:
		return 3 + uint64(in.Peer)<<8
	case Broke:
		return 4 + uint64(in.Peer)<<8
	case Dialled:
		return 5 + uint64(in.Result)<<8 + uint64(in.Peer)<<16
	case Swim:
		return 6 + uint64(in.Peer)<<8
	case Ack:
		return 7 + in.Hash<<8
	case VoteIn:
		return 8 + in.Vote.Seq<<8 + uint64(in.Vote.Says)<<40
	case News:
		return 9 + uint64(len(in.Recs))<<8
	case Table:
		return 10 + uint64(len(in.Recs))<<8
	}
	return 11
}

func (p *simProc) carryOut(out *Output) {
	w := p.w
	for _, ch := range out.Changes {
		p.changed(ch)
	}
	for _, s := range out.Sends {
		p.send(s)
	}
	for _, d := range out.Dials {
		p.dial(d)
	}
	for _, cl := range out.Closes {
		p.closePeer(cl)
	}
	for _, ct := range out.Contacts {
		p.exchange(ct.Addr)
	}
	w.note(3, uint64(len(out.Changes)), uint64(len(out.Sends)), uint64(len(out.Dials)), p.core.hash)
	if w.verbose != nil {
		for _, l := range out.Logs {
			w.verbose("%12v %-4s %v %s %v", w.now, p.h.label, l.Level, l.Text, l.Args)
		}
	}
}

// changed writes down one change of what p shows.
func (p *simProc) changed(ch Change) {
	w := p.w
	w.version++
	sc := shownChange{at: w.now, viewer: p, about: ch.Peer, kind: ch.Kind, from: ch.From}
	if i, ok := p.core.Shown(ch.Peer); ok {
		sc.to, sc.cause = i.Shown, i.Why
	}
	if o := w.proc(ch.Peer); o != nil {
		w.checkChange(p, o, sc)
	}
	w.history = append(w.history, sc)
	if w.verbose != nil {
		w.verbose("%12v %-4s shows %s %v→%v %v (%v)", w.now, p.h.label, w.label(ch.Peer), ch.From, sc.to, sc.cause, ch.Kind)
	}
}

// checkChange checks what must hold of every single change.
func (w *world) checkChange(p, o *simProc, sc shownChange) {
	quiet := w.now - w.faults
	if w.faulty {
		quiet = 0
	}
	switch {
	case !o.gone && !o.paused && !o.leaving && sc.kind == Changed && sc.to > Alive && sc.from == Alive && quiet > 15*time.Second:
		w.breach("%s takes the healthy %s for %v (%v) %v after the last fault", p.h.label, o.h.label, sc.to, sc.cause, quiet)
	case o.gone && w.now-o.died > 3*time.Second && sc.to == Alive && sc.from > Alive && quiet > 10*time.Second:
		w.breach("%s takes %s for alive, which died %v ago", p.h.label, o.h.label, w.now-o.died)
	case o.gone && w.now-o.died > 10*time.Second && sc.kind == Joined && sc.to == Alive && !w.faulty && w.now-w.healed > 10*time.Second:
		w.breach("%s is born knowing %s as alive, which died %v ago", p.h.label, o.h.label, w.now-o.died)
	}
}

func (w *world) proc(id ID) *simProc {
	for _, p := range w.procs {
		if p.id == id {
			return p
		}
	}
	return nil
}

func (w *world) label(id ID) string {
	p := w.proc(id)
	if p == nil {
		return fmt.Sprint("#", uint64(id))
	}
	if p.name != p.h.label {
		return p.h.label + "=" + p.name
	}
	return p.h.label
}

// running returns the processes that run.
func (w *world) running() []*simProc {
	var out []*simProc
	for _, h := range w.hosts {
		if h.proc != nil {
			out = append(out, h.proc)
		}
	}
	return out
}

// end ends p. Its kernel says goodbye to nobody in its name.
func (p *simProc) end() {
	p.gone, p.died = true, p.w.now
	p.w.disturb()
	p.inbox = nil
	d := &p.h.disk
	for _, r := range p.core.byID {
		if r != p.core.self && r.shown {
			d.peers = slices.DeleteFunc(d.peers, func(m Memory) bool { return m.Name == r.Name })
			d.peers = append(d.peers, Memory{ID: r.ID, Name: r.Name, Addr: r.Addr, Left: r.State == Left})
		}
	}
	p.h.proc = nil
	p.w.version++
}

// kill ends the process on h; its kernel closes its streams.
func (w *world) kill(h *simHost) {
	p := h.proc
	if p == nil {
		return
	}
	w.note(4, uint64(p.id))
	p.end()
	for _, st := range slices.Clone(p.streams) {
		st.shut(st.side(p), false)
	}
	p.streams = nil
}

// powerOff takes h from the network at once.
func (w *world) powerOff(h *simHost) {
	h.on = false
	if p := h.proc; p != nil {
		w.note(5, uint64(p.id))
		p.end()
		for _, st := range p.streams {
			st.ends[st.side(p)].vanished = true
		}
		p.streams = nil
	}
}

// pause stops p for d, and its kernel goes on.
func (w *world) pause(h *simHost, d time.Duration) {
	p := h.proc
	if p == nil || p.paused {
		return
	}
	p.paused = true
	w.disturb()
	w.note(6, uint64(p.id))
	w.after(d, func() {
		if p.gone {
			return
		}
		w.note(7, uint64(p.id))
		p.paused = false
		w.disturb()
		w.version++
		for i, f := range p.inbox {
			w.after(time.Duration(i)*20*time.Microsecond, p.do(f))
		}
		p.inbox = nil
	})
}

// unlink takes h's interface down: its streams end, and its dials fail at once.
func (w *world) unlink(h *simHost) {
	h.noLink = true
	if h.proc != nil {
		for _, st := range slices.Clone(h.proc.streams) {
			st.breaks(st.side(h.proc))
		}
	}
}

// leave lets p say goodbye and end.
func (w *world) leave(h *simHost) {
	p := h.proc
	if p == nil || p.leaving {
		return
	}
	p.leaving = true
	p.step(Leave{})
	p.swim.leave()
	w.after(300*time.Millisecond, p.do(func() {
		for _, st := range slices.Clone(p.streams) {
			st.shut(st.side(p), true)
		}
		p.end()
	}))
}

// send carries out one Send.
func (p *simProc) send(s Send) {
	w := p.w
	p.sends++
	w.sends++
	deliver := p.packed(s.Msg)
	if s.Gossip {
		p.swim.spread(deliver)
	}
	for _, id := range s.To {
		r := p.core.rows[id]
		if r == nil {
			w.breach("%s sends to %d, which it does not know", p.h.label, id)
			continue
		}
		w.net.datagram(p.h, r.Addr, deliver)
	}
}

// packed returns what m does where it arrives. It goes by the wire.
func (p *simProc) packed(m Message) func(*simProc) {
	switch m := m.(type) {
	case Vote:
		b := m.Append(nil)
		return func(o *simProc) {
			v, err := ParseVote(b[1:])
			must(err)
			o.step(VoteIn{v})
		}
	case News:
		b := AppendRecs(nil, FrameNews, m.From, m.Recs)
		return func(o *simProc) {
			n, err := ParseNews(b[1:])
			must(err)
			o.step(n)
		}
	case Number:
		return func(o *simProc) { o.step(m) }
	case Want:
		return func(o *simProc) { // it may not know who asks, and answers to where it came from
			if m.Owner == o.id {
				o.w.net.datagram(o.h, p.h.addr, o.packed(RecordOf{o.id}))
			}
		}
	case RecordOf:
		r := p.core.rows[m.Peer]
		rec := Record{Peer: m.Peer, Number: r.number, Body: slices.Clone(r.body)}
		return func(o *simProc) { o.step(rec) }
	}
	panic(fmt.Sprintf("unknown message %T", m))
}

func must(err error) {
	if err != nil {
		panic(err)
	}
}

// view is all that p shows, as a text to compare.
func (p *simProc) view() string {
	var b strings.Builder
	for _, r := range p.core.byID {
		if i, ok := p.core.Shown(r.ID); ok {
			fmt.Fprintf(&b, "%d %v %v %v;", i.ID, i.Shown, i.Shadowed, i.Conflict)
		}
	}
	return b.String()
}

// disturb writes down that something happens to the world now.
func (w *world) disturb() {
	was := w.faulty
	w.faults = w.now
	w.faulty = w.net.loss > 0
	for _, h := range w.hosts {
		if h.lossIn > 0 || h.lossOut > 0 || h.noRoute || h.noLink || h.proc != nil && h.proc.paused || slices.Contains(h.cut, true) {
			w.faulty = true
		}
	}
	if was && !w.faulty {
		w.healed = w.now
	}
}
