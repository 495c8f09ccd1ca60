package lockclient_test

import (
	"fmt"
	"hash/maphash"
	"math/bits"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/peerhq/peer/testcluster"
)

// The tests of the model take some seconds by default. By the environment they
// look further:
//
//	PEER_MODEL=3/1/1/3/2    searches 3 clients with 1 attempt each and 1 fault, ttl
//	                        3 and claim 2 ticks; several are separated by commas
//	PEER_MODEL_STATES=2e7   stops each such search after so many states; 4e6 by
//	                        default, of some 200 bytes each
//	PEER_MODEL_TRACES=5000  how many random traces are replayed on redis-server,
//	                        and a fifth as many on the embedded Redis; 300 by default
//	PEER_MODEL_SEED=7       the seed of the random traces

func modelEnv(name string, otherwise float64) int {
	if v, err := strconv.ParseFloat(os.Getenv(name), 64); err == nil {
		return int(v)
	}
	return int(otherwise)
}

// now in the search is always modelNow: of what was before only the order counts.
const modelNow = 24

// A modelScale renumbers fences, or places.
type modelScale struct {
	seen  uint64
	now   uint16
	exact bool // keep the distances from now on: the next one may be one more
}

func (m *modelScale) see(v *uint16) {
	if *v >= 64 {
		panic("the model has too little room for numbers")
	}
	m.seen |= 1 << *v
}

func (m *modelScale) put(v *uint16) {
	switch {
	case *v == 0:
	case *v < m.now:
		*v = uint16(bits.OnesCount64(m.seen&(1<<*v-2))) + 1
	case m.exact:
		*v += modelNow - m.now
	default:
		*v = modelNow + uint16(bits.OnesCount64((m.seen&(1<<*v-1))>>m.now))
	}
}

// rename renumbers fences and places by rank, so that states that differ in
// nothing else are the same.
func (m *model) rename(s *modelState) {
	m.forget(s)
	fences, places := modelScale{now: s.srv.now}, modelScale{now: s.srv.now, exact: true}
	m.numbers(s, fences.see, places.see)
	m.numbers(s, fences.put, places.put)
	s.srv.now = modelNow
}

// forget drops what no later step can tell: new fences are greater than any
// before, so that an old one matters only to who knows it.
func (m *model) forget(s *modelState) {
	if s.top < s.srv.now {
		s.top = 0
	}
	told := false
	for i := range m.clients {
		c := &s.clients[i]
		known := c.excuse == c.fence || c.call.answered && c.call.gotFence == c.excuse
		for _, msg := range c.msgs[:c.nmsgs] {
			known = known || msg.fence == c.excuse
		}
		if !known {
			c.excuse = 0
		}
		if told = told || c.nmsgs > 0; c.nmsgs > 0 {
			continue
		}
		c.known = 0
		if c.call.got != 1 || c.call.script == callBeat {
			c.call.gotFence = 0
		}
	}
	if !told && s.srv.last > 0 && s.srv.last < s.srv.now {
		s.srv.last = 1
	}
}

// numbers calls the functions with each fence and each place of s.
func (m *model) numbers(s *modelState, fence, place func(*uint16)) {
	fence(&s.srv.last)
	fence(&s.srv.fence)
	fence(&s.top)
	place(&s.srv.lastAt)
	place(&s.late.place)
	for i := range m.clients * m.attempts {
		place(&s.srv.queue[i].place)
	}
	for i := range m.clients {
		c := &s.clients[i]
		place(&c.place)
		place(&c.call.place)
		place(&c.call.gotPlace)
		fence(&c.call.gotFence)
		fence(&c.known)
		fence(&c.fence)
		fence(&c.excuse)
		for j := range c.nmsgs {
			fence(&c.msgs[j].fence)
		}
	}
}

// orders returns the ways to number the clients anew, other than the one there is:
// states that differ only in which client is which are the same.
func (m *model) orders() [][modelClients]uint8 {
	switch m.clients {
	case 2:
		return [][modelClients]uint8{{1, 0, 2}}
	case 3:
		return [][modelClients]uint8{{0, 2, 1}, {1, 0, 2}, {1, 2, 0}, {2, 0, 1}, {2, 1, 0}}
	}
	return nil
}

// permute writes s to t with client i as order[i].
func (m *model) permute(s *modelState, order [modelClients]uint8, t *modelState) {
	*t = *s
	id := func(id *uint8) {
		if *id != 0 && *id != modelNobody {
			i := int(*id-1) / m.attempts
			*id = uint8(int(order[i])*m.attempts+int(*id-1)%m.attempts) + 1
		}
	}
	id(&t.srv.holder)
	id(&t.late.id)
	for i := range m.clients {
		to := int(order[i])
		copy(t.srv.queue[to*m.attempts:(to+1)*m.attempts], s.srv.queue[i*m.attempts:])
		c := &t.clients[to]
		*c = s.clients[i]
		id(&c.call.id)
		id(&c.stray)
		for j := range c.nmsgs {
			id(&c.msgs[j].id)
		}
	}
}

// A modelNode is a state that was found, and how.
type modelNode struct {
	parent, fair int32 // fair is the state that follows when nothing goes wrong; -1 for none
	step         modelStep
	tick         bool // to fair
}

// A modelSearch is what a search found.
type modelSearch struct {
	m         *model
	nodes     []modelNode
	depth     int
	complete  bool
	took      time.Duration
	wrong     string      // the invariant that broke
	trace     []modelStep // to where it did
	witnesses map[modelClass][]modelStep
	worst     int // ticks until nobody waits when nothing goes wrong any more
}

func (r *modelSearch) String() string {
	c := r.m.modelConfig
	return fmt.Sprintf("%d clients, %d attempts, %d faults, ttl/claim %d/%d: %d states, depth %d, complete %v, %d classes, %d ticks at most to the end of a fault, %v",
		c.clients, c.attempts, c.faults, c.ttl, c.claim, len(r.nodes), r.depth, r.complete, len(r.witnesses), r.worst, r.took.Round(time.Millisecond))
}

// search walks all states of m, breadth first, up to limit of them. What it knows
// of a state that is done with is a hash of 64 bits: of two million states two
// are taken for one with a chance of one in nine million.
func (m *model) search(limit int) *modelSearch {
	began := time.Now()
	r := &modelSearch{m: m, witnesses: map[modelClass][]modelStep{}}
	seed := maphash.MakeSeed()
	known := make(map[uint64]int32, min(limit, 1<<16))
	steps, orders := m.steps(), m.orders()
	var turned modelState
	s := m.start()
	m.rename(&s)
	hash := func(s *modelState) uint64 {
		h := maphash.Comparable(seed, *s)
		for _, p := range orders {
			m.permute(s, p, &turned)
			h = min(h, maphash.Comparable(seed, turned))
		}
		return h
	}
	known[hash(&s)] = 0
	r.nodes = append(r.nodes, modelNode{parent: -1, fair: -1})
	level := []modelState{s}
	var next modelState
	var e modelEffect
	first := 0
	for ; len(level) > 0 && len(r.nodes) < limit; r.depth++ {
		var following []modelState
		for k := range level {
			at := int32(first + k)
			fair, more := m.fair(&level[k])
			for _, a := range steps {
				if !m.apply(&level[k], a, &next, &e) {
					continue
				}
				if e.wrong != "" {
					r.wrong, r.trace = e.wrong, append(r.path(at), a)
					r.took = time.Since(began)
					return r
				}
				if e.call.script != callNone {
					if class := e.class(); r.witnesses[class] == nil {
						r.witnesses[class] = append(r.path(at), a)
					}
				}
				m.rename(&next)
				h := hash(&next)
				to, ok := known[h]
				if !ok {
					to = int32(len(r.nodes))
					known[h] = to
					r.nodes = append(r.nodes, modelNode{parent: at, fair: -1, step: a})
					following = append(following, next)
				}
				if more && a == fair {
					r.nodes[at].fair, r.nodes[at].tick = to, a.op == opTick
				}
			}
		}
		first += len(level)
		level = following
	}
	r.complete = len(level) == 0
	if r.complete {
		r.settle()
	}
	r.took = time.Since(began)
	return r
}

// path returns the steps to the state at.
func (r *modelSearch) path(at int32) []modelStep {
	n := 0
	for i := at; i > 0; i = r.nodes[i].parent {
		n++
	}
	steps := make([]modelStep, n, n+1)
	for i := at; i > 0; i = r.nodes[i].parent {
		n--
		steps[n] = r.nodes[i].step
	}
	return steps
}

// settle follows each state to its end when nothing goes wrong any more, and
// counts the ticks on the way.
func (r *modelSearch) settle() {
	const unknown, underway = -1, -2
	ticks := make([]int, len(r.nodes))
	for i := range ticks {
		ticks[i] = unknown
	}
	var way []int32
	for i := range r.nodes {
		way = way[:0]
		at, n := int32(i), 0
		for at >= 0 && ticks[at] == unknown {
			ticks[at] = underway
			way = append(way, at)
			at = r.nodes[at].fair
		}
		if at >= 0 {
			if n = ticks[at]; n == underway {
				r.wrong, r.trace = "somebody waits for ever", r.path(int32(i))
				return
			}
		}
		for j := len(way) - 1; j >= 0; j-- {
			if r.nodes[way[j]].tick {
				n++
			}
			ticks[way[j]] = n
			r.worst = max(r.worst, n)
		}
	}
}

// modelSearches are run once for all tests.
var modelSearches = sync.OnceValue(func() []*modelSearch {
	var all []*modelSearch
	for _, c := range []modelConfig{
		{clients: 2, attempts: 1, faults: 1, ttl: 2, claim: 1},
		{clients: 2, attempts: 1, faults: 0, ttl: 3, claim: 2},
	} {
		m := &model{c}
		all = append(all, m.search(10_000_000))
	}
	return all
})

func TestModel(t *testing.T) {
	if testcluster.RaceDetector {
		t.Skip("the race detector finds nothing in what has one goroutine, and slows it tenfold")
	}
	for _, r := range modelSearches() {
		t.Log(r)
		if r.wrong != "" {
			t.Errorf("%s, after %v", r.wrong, r.trace)
		} else if !r.complete {
			t.Error("the search is not complete")
		}
	}
}

// TestModelFurther searches what PEER_MODEL asks for.
func TestModelFurther(t *testing.T) {
	for text := range strings.SplitSeq(os.Getenv("PEER_MODEL"), ",") {
		if text == "" {
			continue
		}
		var c modelConfig
		if _, err := fmt.Sscanf(text, "%d/%d/%d/%d/%d", &c.clients, &c.attempts, &c.faults, &c.ttl, &c.claim); err != nil ||
			c.clients < 1 || c.clients > modelClients || c.attempts < 1 || c.clients*c.attempts > modelIDs || c.claim < 1 || c.ttl < c.claim {
			t.Fatalf("PEER_MODEL: %q is not clients/attempts/faults/ttl/claim within bounds", text)
		}
		m := &model{c}
		r := m.search(modelEnv("PEER_MODEL_STATES", 4e6))
		t.Log(r)
		if r.wrong != "" {
			t.Errorf("%s, after %v", r.wrong, r.trace)
		}
	}
}
