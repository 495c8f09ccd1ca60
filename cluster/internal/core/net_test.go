package core

import (
	"net/netip"
	"slices"
	"time"
)

// network carries datagrams and streams.
type network struct {
	w     *world
	loss  int // of 1000, everywhere
	twice int // of 1000 datagrams come twice
	slow  int // of 1000 datagrams take up to 30 ms
}

const (
	rtoFirst    = 200 * time.Millisecond
	brokenAfter = 2500 * time.Millisecond // TCP_USER_TIMEOUT
	synAgain    = time.Second
	dialLimit   = 1500 * time.Millisecond
)

// passes says whether a packet gets from a to b now.
func (n *network) passes(a, b *simHost) bool {
	if !a.on || a.noLink || b.noLink || a.cut[b.index] {
		return false
	}
	return a == b || !n.w.chance(n.loss) && !n.w.chance(a.lossOut) && !n.w.chance(b.lossIn)
}

func (n *network) latency() time.Duration {
	return n.w.between(150*time.Microsecond, 350*time.Microsecond)
}

// datagram sends one to whoever is at the address when it arrives.
func (n *network) datagram(from *simHost, to netip.AddrPort, deliver func(*simProc)) {
	h := n.w.byAddr[to]
	if h == nil || h.noRoute {
		return
	}
	times := 1
	if n.w.chance(n.twice) {
		times = 2
	}
	for range times {
		if !n.passes(from, h) {
			continue
		}
		lat := n.latency()
		if n.w.chance(n.slow) {
			lat += n.w.between(0, 30*time.Millisecond)
		}
		n.w.after(lat, func() {
			if p := h.proc; p != nil && h.on {
				p.do(func() { deliver(p) })()
			}
		})
	}
}

// streamKind is what a stream is for.
type streamKind uint8

const (
	watchStream streamKind = iota
	probeStream
	exchangeStream
)

// simStream is a TCP connection: side 0 dialled it.
type simStream struct {
	w      *world
	kind   streamKind
	want   ID // whom the dialer expects
	target *simHost
	ends   [2]simEnd
	done   bool // the dial has a result
}

// simEnd is one end of a stream, and what it sends.
type simEnd struct {
	p        *simProc
	h        *simHost
	open     bool // its kernel has the connection
	up       bool // the handshake is done
	closed   bool // the process is done with it
	vanished bool // its host lost power
	msgs     []simMsg
	sent     []time.Duration // when each of msgs was first sent
	una      int             // the first of msgs that is not acknowledged
	got      int             // how much of the other's came
	rto      time.Duration
	timer    int
	arrives  time.Duration // the last packet to it; they keep their order
	heard    time.Duration
	echoes   []time.Duration // beats without echo
	bye      bool            // the other said goodbye
}

// simMsg is what a stream carries.
type simMsg struct {
	kind byte // 'h' hello, 'o' ok, 'x' another instance, 'b' beat, 'e' echo, 'g' goodbye, 'f' end, 't' table
	data any
}

func (st *simStream) side(p *simProc) int {
	if st.ends[0].p == p {
		return 0
	}
	return 1
}

func (p *simProc) dial(d Dial) {
	kind := watchStream
	if d.Probe {
		kind = probeStream
	}
	p.connect(kind, d.Peer, d.Addr)
}

func (p *simProc) exchange(addr netip.AddrPort) { p.connect(exchangeStream, 0, addr) }

// connect begins a stream.
func (p *simProc) connect(kind streamKind, want ID, addr netip.AddrPort) {
	w := p.w
	st := &simStream{w: w, kind: kind, want: want, target: w.byAddr[addr]}
	st.ends[0] = simEnd{p: p, h: p.h, rto: rtoFirst}
	p.streams = append(p.streams, st)
	w.after(dialLimit, func() {
		if !st.done {
			st.shut(0, false)
			p.do(func() { st.result(TimedOut) })()
		}
	})
	if p.h.noLink { // its kernel knows no way
		w.after(time.Millisecond, func() {
			st.shut(0, false)
			p.do(func() { st.result(TimedOut) })()
		})
		return
	}
	st.syn(synAgain)
}

func (st *simStream) syn(again time.Duration) {
	w, a, h := st.w, &st.ends[0], st.target
	if a.closed || a.open || a.vanished {
		return
	}
	if h != nil && !h.noRoute && w.net.passes(a.h, h) {
		w.after(w.net.latency(), func() { st.synArrives() })
	}
	w.after(again, func() { st.syn(2 * again) })
}

func (st *simStream) synArrives() {
	w, a, b, h := st.w, &st.ends[0], &st.ends[1], st.target
	switch {
	case !h.on:
		return
	case h.proc == nil:
		if w.net.passes(h, a.h) {
			w.after(w.net.latency(), func() {
				if !st.done && !a.open {
					st.shut(0, false)
					a.p.do(func() { st.result(Refused) })()
				}
			})
		}
		return
	case b.p == nil:
		*b = simEnd{p: h.proc, h: h, rto: rtoFirst, open: true}
		h.proc.streams = append(h.proc.streams, st)
	}
	if w.net.passes(h, a.h) {
		w.after(w.net.latency(), func() {
			if !a.open && !a.closed && !a.vanished {
				a.open = true
				a.p.do(func() {
					if st.kind == exchangeStream {
						st.write(0, simMsg{'t', a.p.tables()})
					} else {
						st.write(0, simMsg{'h', a.p.id})
					}
				})()
			}
		})
	}
}

// result hands the dialer the result of its dial, once.
func (st *simStream) result(res DialResult) {
	if st.done {
		return
	}
	st.done = true
	p := st.ends[0].p
	if p.gone || st.kind == exchangeStream {
		return
	}
	if res == Answered && st.kind == watchStream {
		return // Up says it
	}
	p.step(Dialled{Peer: st.want, Result: res})
}

// write sends one message from a side.
func (st *simStream) write(i int, m simMsg) {
	e := &st.ends[i]
	if e.closed || !e.open || e.vanished {
		return
	}
	st.push(i, m)
}

func (st *simStream) push(i int, m simMsg) {
	e := &st.ends[i]
	e.msgs, e.sent = append(e.msgs, m), append(e.sent, st.w.now)
	st.transmit(i, len(e.msgs)-1)
	if e.una == len(e.msgs)-1 {
		e.rto = rtoFirst
		st.arm(i)
	}
}

// transmit sends all from a message on in one packet.
func (st *simStream) transmit(i, from int) {
	w, e, o := st.w, &st.ends[i], &st.ends[1-i]
	if e.vanished || o.h == nil || !w.net.passes(e.h, o.h) {
		return
	}
	to := len(e.msgs)
	o.arrives = max(o.arrives+1, w.now+w.net.latency())
	w.at(o.arrives, func() { st.arrive(1-i, from, to) })
}

// arm starts the timer of retransmission.
func (st *simStream) arm(i int) {
	e := &st.ends[i]
	e.timer++
	timer := e.timer
	st.w.after(e.rto, func() {
		if e.timer != timer || e.vanished || e.una >= len(e.msgs) {
			return
		}
		left := brokenAfter - (st.w.now - e.sent[e.una])
		if left <= 0 {
			e.una = len(e.msgs)
			st.breaks(i)
			return
		}
		st.transmit(i, e.una)
		e.rto = max(min(2*e.rto, left), time.Millisecond)
		st.arm(i)
	})
}

// arrive takes in a packet at side j, in its kernel.
func (st *simStream) arrive(j, from, to int) {
	w, e, o := st.w, &st.ends[j], &st.ends[1-j]
	if !e.h.on {
		return
	}
	if e.vanished || e.closed && !o.msgsEnd(to) { // nobody is there any more
		if w.net.passes(e.h, o.h) {
			w.after(w.net.latency(), func() {
				if !o.vanished && !o.closed {
					o.una = len(o.msgs)
					st.breaks(1 - j)
				}
			})
		}
		return
	}
	if from <= e.got && to > e.got {
		for _, m := range o.msgs[e.got:to] {
			if !e.closed {
				e.p.do(func() { st.read(j, m) })()
			}
		}
		e.got = to
	}
	got := e.got
	if w.net.passes(e.h, o.h) {
		w.after(w.net.latency(), func() { st.acked(1-j, got) })
	}
}

// msgsEnd says whether all up to a message is an end: it is acknowledged even by
// who has closed.
func (e *simEnd) msgsEnd(to int) bool { return to > 0 && e.msgs[to-1].kind == 'f' }

func (st *simStream) acked(i, got int) {
	e := &st.ends[i]
	if got <= e.una || e.vanished {
		return
	}
	e.una = got
	e.rto = rtoFirst
	if e.una < len(e.msgs) {
		if st.w.now-e.sent[e.una] > rtoFirst {
			st.transmit(i, e.una)
		}
		st.arm(i)
	}
}

// breaks ends a side whose other end is not there.
func (st *simStream) breaks(i int) {
	e := &st.ends[i]
	if e.closed {
		return
	}
	e.closed = true
	e.p.do(func() { st.ended(i) })()
}

// shut closes a side: with a goodbye, or as a kernel does for a process that died.
func (st *simStream) shut(i int, bye bool) {
	e := &st.ends[i]
	if e.closed {
		return
	}
	if e.open {
		if bye {
			st.push(i, simMsg{'g', nil})
		}
		st.push(i, simMsg{'f', nil})
	}
	e.closed = true
	e.p.streams = withoutStream(e.p.streams, st)
}

func withoutStream(all []*simStream, st *simStream) []*simStream {
	if at := slices.Index(all, st); at >= 0 {
		return slices.Delete(all, at, at+1)
	}
	return all
}

// ended tells the process of a side that the stream is over.
func (st *simStream) ended(i int) {
	e, o := &st.ends[i], &st.ends[1-i]
	p := e.p
	p.streams = withoutStream(p.streams, st)
	if i == 0 && !st.done {
		if st.target.proc == nil { // a dial that is reset is tried again at once
			st.result(Refused)
		} else {
			st.result(TimedOut)
		}
		return
	}
	if st.kind != watchStream || !e.up || e.bye {
		return
	}
	if peer := o.p.id; p.streamTo(peer) == nil {
		p.step(Broke{Peer: peer})
	}
}

// streamTo returns a stream of p to or from a peer.
func (p *simProc) streamTo(peer ID) *simStream {
	for _, st := range p.streams {
		if i := st.side(p); st.kind == watchStream && st.ends[i].up && st.ends[1-i].p.id == peer {
			return st
		}
	}
	return nil
}

// read takes in a message at side j, in its process.
func (st *simStream) read(j int, m simMsg) {
	e := &st.ends[j]
	p := e.p
	if e.closed && m.kind != 'f' {
		return
	}
	switch m.kind {
	case 'h':
		if st.want != p.id {
			st.write(j, simMsg{'x', nil})
			st.shut(j, true)
			return
		}
		st.write(j, simMsg{'o', nil})
		if st.kind == watchStream {
			e.up, e.heard = true, p.w.now
			st.supersede(j)
			p.step(Up{Peer: m.data.(ID)})
		}
	case 'o':
		e.up, e.heard = true, p.w.now
		if st.kind == probeStream {
			st.result(Answered)
			st.shut(j, true)
			return
		}
		st.result(Answered)
		st.supersede(j)
		p.step(Up{Peer: st.want, Out: true})
	case 'x':
		st.shut(j, true)
		st.result(Refused)
	case 'b':
		st.hear(j)
		st.write(j, simMsg{'e', nil})
	case 'e':
		if len(e.echoes) > 0 {
			e.echoes = e.echoes[1:]
		}
		st.hear(j)
	case 'g':
		e.bye = true
	case 'f':
		if !e.closed {
			e.closed = true
			st.push(j, simMsg{'f', nil})
			st.ended(j)
		}
	case 't':
		if j == 1 {
			st.write(j, simMsg{'t', p.tables()})
		}
		p.takeTables(m.data.(tables))
		if j == 0 {
			st.done = true
			st.shut(j, true)
		}
	}
}

// hear writes down that a byte came, and tells the core after a second of silence.
func (st *simStream) hear(j int) {
	e := &st.ends[j]
	p, peer := e.p, st.ends[1-j].p.id
	last := p.lastHeard(peer)
	e.heard = p.w.now
	if p.w.now-last > time.Second {
		p.step(Heard{Peer: peer})
	}
}

func (p *simProc) lastHeard(peer ID) time.Duration {
	last := time.Duration(0)
	for _, st := range p.streams {
		if i := st.side(p); st.kind == watchStream && st.ends[i].up && st.ends[1-i].p.id == peer {
			last = max(last, st.ends[i].heard)
		}
	}
	return last
}

// supersede closes an older stream of the same direction between the same two.
func (st *simStream) supersede(j int) {
	p, peer := st.ends[j].p, st.ends[1-j].p
	for _, o := range slices.Clone(p.streams) {
		if o != st && o.kind == watchStream && o.side(p) == j && o.ends[1-j].p == peer && o.ends[j].up {
			o.shut(j, true)
		}
	}
}

func (p *simProc) closePeer(cl Close) {
	for _, st := range slices.Clone(p.streams) {
		i := st.side(p)
		up := st.ends[i].up
		if st.kind == exchangeStream || st.kind == probeStream && up {
			continue
		}
		switch {
		case !up && i == 0 && st.want == cl.Peer && (!cl.OnlyOut || st.kind == watchStream):
			st.done = true // nobody wants its result
		case !up || st.ends[1-i].p.id != cl.Peer || cl.OnlyOut && i == 1:
			continue
		}
		st.shut(i, true)
	}
}

// beat sends a beat on every stream that p dialled; the other end echoes it.
func (p *simProc) beat() {
	for _, st := range slices.Clone(p.streams) {
		if e := &st.ends[0]; e.p == p && st.kind == watchStream && e.up && !e.closed && len(e.echoes) < 16 {
			e.echoes = append(e.echoes, p.w.now)
			st.write(0, simMsg{'b', nil})
		}
	}
	p.w.after(BeatEvery, p.do(p.beat))
}

// links returns the state of all streams, one for each peer.
func (p *simProc) links() []Link {
	var out []Link
	for _, st := range p.streams {
		i := st.side(p)
		e := &st.ends[i]
		if st.kind != watchStream || !e.up {
			continue
		}
		peer, pending := st.ends[1-i].p.id, time.Duration(0)
		if len(e.echoes) > 0 {
			pending = p.w.now - e.echoes[0]
		}
		at := slices.IndexFunc(out, func(l Link) bool { return l.Peer == peer })
		if at < 0 {
			out = append(out, Link{Peer: peer, Heard: e.heard, Pending: pending, Out: i == 0})
			continue
		}
		l := &out[at]
		l.Heard, l.Pending, l.Out = max(l.Heard, e.heard), max(l.Pending, pending), l.Out || i == 0
	}
	return out
}

// tables is one half of a table exchange.
type tables struct {
	swim  []swimState
	beats []Beat
	frame []byte
}

func (p *simProc) tables() tables {
	return tables{swim: p.swim.states(), beats: p.core.Digest(nil, p.w.now), frame: AppendRecs(nil, FrameTable, p.id, p.core.Table(nil))}
}

func (p *simProc) takeTables(t tables) {
	p.swim.merge(t.swim)
	p.step(Beats{Beats: slices.Clone(t.beats)})
	in, err := ParseTable(t.frame[1:])
	must(err)
	p.step(in)
}
