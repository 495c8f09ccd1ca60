package core

import (
	"math"
	"net/netip"
	"slices"
	"time"
)

// swimNode is memberlist, simplified: probes, indirect probes, suspicion,
// refutation, gossip of alive and dead. It has no periodic exchange of tables and
// no probe by TCP.
type swimNode struct {
	p       *simProc
	members []*swimMember
	byID    map[ID]*swimMember
	turn    int
	inc     uint64
	left    bool
	queue   []*broadcast
	acks    uint64 // number of the last probe
	open    uint64 // the probe that is not answered, 0 if none
}

type swimMember struct {
	swimState
	suspected int // generation of the timer
	died      time.Duration
}

type swimState struct {
	id    ID
	addr  netip.AddrPort
	inc   uint64
	state swimKind
	by    ID
}

type swimKind uint8

const (
	swimAlive swimKind = iota
	swimSuspect
	swimDead
	swimLeft
)

// broadcast is one item in the queue of gossip.
type broadcast struct {
	about   ID // 0 for messages of the core
	deliver func(*simProc)
	sent    int
}

const (
	probeEvery   = time.Second
	probeWait    = 500 * time.Millisecond
	gossipEvery  = 200 * time.Millisecond
	gossipTo     = 3
	gossipSize   = 12
	gossipToDead = 30 * time.Second
)

func newSwim(p *simProc) *swimNode {
	s := &swimNode{p: p, byID: map[ID]*swimMember{}, inc: 1}
	s.add(swimState{id: p.id, addr: p.h.addr, inc: 1})
	w := p.w
	w.after(w.between(0, probeEvery), p.do(s.probe))
	w.after(w.between(0, gossipEvery), p.do(s.gossip))
	return s
}

func (s *swimNode) add(st swimState) *swimMember {
	m := &swimMember{swimState: st}
	s.byID[st.id] = m
	at := s.p.w.rng.below(len(s.members) + 1)
	s.members = slices.Insert(s.members, at, m)
	return m
}

// take merges what is said of one member.
func (s *swimNode) take(st swimState) {
	p := s.p
	if st.id == p.id {
		if st.state != swimAlive && !s.left && st.inc >= s.inc {
			s.inc = st.inc + 1
			s.byID[p.id].inc = s.inc
			s.tell(s.byID[p.id].swimState)
		}
		return
	}
	m := s.byID[st.id]
	switch {
	case m == nil:
		if st.state == swimSuspect {
			st.state = swimAlive
		}
		m = s.add(st)
		s.tell(st)
		if st.state >= swimDead {
			m.died = p.w.now
		}
		p.step(Swim{Peer: st.id, Addr: st.addr, Dead: st.state >= swimDead})
		return
	case st.state == swimAlive:
		if st.inc <= m.inc {
			return
		}
	case st.inc < m.inc || st.state <= m.state:
		return
	}
	was := m.state
	m.state, m.inc, m.by = st.state, st.inc, st.by
	m.suspected++
	s.tell(m.swimState)
	switch {
	case st.state == swimSuspect:
		timer := m.suspected
		n := math.Max(1, math.Log10(float64(len(s.members))))
		p.w.after(time.Duration(4*n*float64(time.Second)), p.do(func() {
			if m.suspected == timer && m.state == swimSuspect {
				s.take(swimState{id: m.id, addr: m.addr, inc: m.inc, state: swimDead, by: p.id})
			}
		}))
	case st.state >= swimDead:
		m.died = p.w.now
		if was < swimDead {
			p.step(Swim{Peer: m.id, Addr: m.addr, Dead: true})
		}
	case was >= swimDead:
		p.step(Swim{Peer: m.id, Addr: m.addr, Dead: false})
	}
}

// tell queues what is said of one member; it takes the place of what was said.
func (s *swimNode) tell(st swimState) {
	s.queue = slices.DeleteFunc(s.queue, func(b *broadcast) bool { return b.about == st.id })
	s.queue = append(s.queue, &broadcast{about: st.id, deliver: func(o *simProc) { o.swim.take(st) }})
}

// spread queues a message of the core.
func (s *swimNode) spread(deliver func(*simProc)) {
	s.queue = append(s.queue, &broadcast{deliver: deliver})
}

func (s *swimNode) leave() {
	s.left = true
	m := s.byID[s.p.id]
	m.state = swimLeft
	s.tell(m.swimState)
}

func (s *swimNode) states() []swimState {
	var out []swimState
	for _, m := range s.members {
		out = append(out, m.swimState)
	}
	return out
}

// merge takes in the members of another, which may be wrong about the dead.
func (s *swimNode) merge(all []swimState) {
	for _, st := range all {
		if st.state == swimDead {
			if s.byID[st.id] == nil {
				continue
			}
			st.state = swimSuspect
		}
		s.take(st)
	}
}

// gossip sends the queue on.
func (s *swimNode) gossip() {
	w := s.p.w
	w.after(gossipEvery, s.p.do(s.gossip))
	if len(s.queue) == 0 || len(s.members) < 2 {
		return
	}
	limit := 4 * int(math.Ceil(math.Log10(float64(len(s.members)+1))))
	for range gossipTo {
		slices.SortStableFunc(s.queue, func(a, b *broadcast) int { return a.sent - b.sent })
		batch := slices.Clone(s.queue[:min(len(s.queue), gossipSize)])
		m := s.members[w.rng.below(len(s.members))]
		if m.id == s.p.id || m.state >= swimDead && w.now-m.died > gossipToDead {
			continue
		}
		for _, b := range batch {
			b.sent++
		}
		w.net.datagram(s.p.h, m.addr, func(o *simProc) {
			for _, b := range batch {
				b.deliver(o)
			}
		})
	}
	s.queue = slices.DeleteFunc(s.queue, func(b *broadcast) bool { return b.sent >= limit })
}

// probe pings the next member.
func (s *swimNode) probe() {
	w, p := s.p.w, s.p
	w.after(probeEvery, p.do(s.probe))
	var m *swimMember
	for range s.members {
		s.turn++
		if s.turn >= len(s.members) {
			s.turn = 0
			for i := len(s.members) - 1; i > 0; i-- {
				j := w.rng.below(i + 1)
				s.members[i], s.members[j] = s.members[j], s.members[i]
			}
		}
		if o := s.members[s.turn]; o.id != p.id && o.state < swimDead {
			m = o
			break
		}
	}
	if m == nil || s.left {
		return
	}
	s.acks++
	number := s.acks
	s.open = number
	answered := func() bool { return s.open != number }
	done := func() {
		if s.open == number {
			s.open = 0
		}
	}
	s.ping(m.id, m.addr, true, done)
	w.after(probeWait, p.do(func() {
		if answered() {
			return
		}
		for range 3 {
			via := s.members[w.rng.below(len(s.members))]
			if via.state < swimDead && via.id != m.id && via.id != p.id {
				w.net.datagram(p.h, via.addr, func(o *simProc) {
					o.swim.ping(m.id, m.addr, false, func() {
						w.net.datagram(o.h, p.h.addr, func(back *simProc) {
							if back == p {
								done()
							}
						})
					})
				})
			}
		}
	}))
	w.after(probeEvery-time.Millisecond, p.do(func() {
		if !answered() {
			s.open = 0
			s.take(swimState{id: m.id, addr: m.addr, inc: m.inc, state: swimSuspect, by: p.id})
		}
	}))
}

// ping asks an instance for an answer.
func (s *swimNode) ping(id ID, addr netip.AddrPort, direct bool, done func()) {
	p := s.p
	p.w.net.datagram(p.h, addr, func(o *simProc) {
		if o.id != id {
			return
		}
		hash, beats := o.core.Hash(), o.core.Digest(nil, o.w.now)
		p.w.net.datagram(o.h, p.h.addr, func(back *simProc) {
			if back != p {
				return
			}
			done()
			if direct {
				p.step(Ack{Peer: id, Hash: hash, Beats: slices.Clone(beats)})
			}
		})
	})
}
