package lockclient_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"sort"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/peerhq/peer/testcluster"
)

// What a tick is on a server. The clock stands between ticks, so that fences and
// places are also raised by one; a failover takes a moment.
const (
	tickMillis     = 10_000
	failoverMicros = 100
	traceBegin     = 1_700_000_000_000_000 // µs
	traceKey       = "peer:{model}"
	traceChannel   = "peer:process:"
	traceMeta      = `{"node":"n"}`
)

// A modelTrace is a run of the model, and what a server should say at each step.
type modelTrace struct {
	m       *model
	name    string
	steps   []modelStep
	moments []modelMoment
	class   modelClass // that the last step is to be of, if it has a script
}

// A modelMoment is what is after a step.
type modelMoment struct {
	step     modelStep
	effect   modelEffect
	listens  [modelClients]bool // which clients are subscribed
	micros   int64              // the server's clock
	args     []string           // of the script, if there is one
	answer   string
	pushes   []string
	kept     string // what is in the server's keys
	inspects string
}

// play runs steps from the start of m, as a server would see them.
func (m *model) play(name string, steps []modelStep) (*modelTrace, error) {
	r := &modelTrace{m: m, name: name, steps: steps}
	s := m.start()
	epochs := []int64{0, traceBegin} // the clock when the model's was modelJump*i
	var next modelState
	var e modelEffect
	for i, a := range steps {
		if !m.apply(&s, a, &next, &e) {
			return nil, fmt.Errorf("%s: step %d, %v, is not possible", name, i, a)
		}
		if e.wrong != "" {
			return nil, fmt.Errorf("%s: %s, after %v", name, e.wrong, steps[:i+1])
		}
		s = next
		if int(s.srv.now/modelJump) == len(epochs) {
			step := int64(tickMillis * 1000)
			if a.op != opTick {
				step = failoverMicros
			}
			epochs = append(epochs, epochs[len(epochs)-1]+step)
		}
		w := modelWords{m, epochs}
		at := modelMoment{step: a, micros: epochs[len(epochs)-1], kept: w.kept(&s.srv), inspects: w.inspects(&s.srv)}
		for i := range m.clients {
			at.listens[i] = s.hears(i)
		}
		if e.call.script != callNone {
			at.effect = e
			at.args, at.answer, at.pushes = w.args(&e), w.answer(&e), w.pushes(&e)
			r.class = e.class()
		}
		r.moments = append(r.moments, at)
	}
	return r, nil
}

// modelWords writes what the model knows as the scripts do.
type modelWords struct {
	m      *model
	epochs []int64
}

func (w modelWords) micros(v uint16) int64 { return w.epochs[v/modelJump] + int64(v%modelJump) }

func (w modelWords) number(v uint16) string {
	if v == 0 {
		return "0"
	}
	return strconv.FormatInt(w.micros(v), 10)
}

// since is when a fence was granted, in ms.
func (w modelWords) since(fence uint16) string {
	return strconv.FormatInt(w.epochs[fence/modelJump]/1000, 10)
}

func (w modelWords) node(id uint8) string { return "n" + strconv.Itoa(w.m.client(id)) }

func (w modelWords) id(id uint8) string {
	return w.node(id) + "/" + strconv.Itoa((int(id)-1)%w.m.attempts+1)
}

func (w modelWords) value(id uint8, fence uint16) string {
	if id == 0 {
		return ""
	}
	if id == modelNobody {
		return "|" + w.number(fence) + "|" + w.since(fence) + `|{"node":"nobody yet: Redis lost its data","ttl_ms":2000}`
	}
	return w.id(id) + "|" + w.number(fence) + "|" + w.since(fence) + "|" + traceMeta
}

func (w modelWords) ear(loud bool) string {
	if loud {
		return "P"
	}
	return "p"
}

func (w modelWords) args(e *modelEffect) []string {
	ttl, claim := strconv.Itoa(int(w.m.ttl)*tickMillis), strconv.Itoa(int(w.m.claim)*tickMillis)
	c := &e.call
	again := "0"
	if c.again {
		again = "1"
	}
	switch c.script {
	case callAcquire:
		return []string{w.id(c.id), ttl, traceMeta, "x " + claim + " " + again + " " + w.number(c.place) + " " + w.ear(c.loud) + " " + traceChannel + w.node(c.id)}
	case callTry:
		return []string{w.id(c.id), ttl, traceMeta, "x 0 " + again + " 0 p -"}
	case callRenew:
		return []string{w.id(c.id), ttl}
	case callLeave:
		return []string{w.id(c.id), ""}
	case callBeat:
		return []string{w.ear(c.loud), "1", w.id(c.id)}
	case callForce:
		return []string{"PUBLISH", traceChannel}
	}
	return []string{w.id(c.id)}
}

// answer is that of a script, with times to live in ticks.
func (w modelWords) answer(e *modelEffect) string {
	c := &e.call
	ttl := "-1"
	if e.holder != 0 && e.position <= 2 {
		ttl = strconv.Itoa(int(e.ttl))
	}
	switch c.script {
	case callAcquire, callTry:
		if c.got == 1 {
			return "1 " + w.number(c.gotFence) + " " + w.since(c.gotFence)
		}
		return fmt.Sprintf("0 %d %s %s %s %s", e.position, ttl, w.number(c.gotPlace), w.number(c.gotFence), w.value(e.holder, e.fence))
	case callBeat:
		if e.holder != 0 {
			ttl = strconv.Itoa(int(e.ttl)) // whatever the position
		}
		return fmt.Sprintf("%s %s %d %s", ttl, w.number(c.gotFence), e.position, w.value(e.holder, e.fence))
	case callForce:
		if e.holder == 0 {
			return "[]"
		}
		return fmt.Sprint([]any{w.value(e.holder, e.fence), int64(e.ttl)})
	}
	return strconv.Itoa(int(c.got))
}

// pushes are the messages that somebody is subscribed to.
func (w modelWords) pushes(e *modelEffect) []string {
	var out []string
	for _, p := range e.pushes[:e.npushes] {
		if !p.heard {
			continue
		}
		kind, rest := "grant", w.since(p.fence)+" "+strconv.Itoa(int(w.m.claim)*tickMillis)
		if p.lost {
			kind, rest = "lost", "0 0"
		}
		out = append(out, traceChannel+w.node(p.id)+" "+kind+" "+w.id(p.id)+" "+w.number(p.fence)+" "+rest+" "+traceKey)
	}
	return out
}

func (w modelWords) waiter(v *modelServer, id uint8) string {
	q := v.queue[id-1]
	return fmt.Sprintf("%d|%d|%s|x|%s%s|%s", q.left, int(w.m.claim)*tickMillis, w.ear(q.loud), traceChannel, w.node(id), traceMeta)
}

// waiters calls f with the ids in the queue, in order.
func (v *modelServer) waiters(f func(id uint8)) {
	var ids []uint8
	for i := range v.queue {
		if v.queue[i].place != 0 {
			ids = append(ids, uint8(i+1))
		}
	}
	sort.SliceStable(ids, func(i, j int) bool { return v.queue[ids[i]-1].place < v.queue[ids[j]-1].place })
	for _, id := range ids {
		f(id)
	}
}

// kept is what traceLook reads: of a waiter whose time is over, how it is called
// does not matter.
func (w modelWords) kept(v *modelServer) string {
	var b strings.Builder
	last := ""
	if v.last != 0 {
		last = w.number(v.last)
	}
	fmt.Fprintf(&b, "hold %q for %d, fence %q", w.value(v.holder, v.fence), v.ttl, last)
	v.waiters(func(id uint8) {
		fmt.Fprintf(&b, ", waiter %s at %s", w.id(id), w.number(v.queue[id-1].place))
		if v.queue[id-1].left > 0 {
			b.WriteString(" " + w.waiter(v, id))
		}
	})
	return b.String()
}

// inspects is what inspect.lua should answer.
func (w modelWords) inspects(v *modelServer) string {
	out := []string{w.number(v.last), "0"}
	if v.holder != 0 {
		out = []string{w.number(v.last), "1", w.value(v.holder, v.fence), strconv.Itoa(int(v.ttl))}
	}
	v.waiters(func(id uint8) {
		if v.queue[id-1].left > 0 {
			out = append(out, w.id(id), w.waiter(v, id))
		}
	})
	return strings.Join(out, " ")
}

// walk returns n steps of m by chance.
func (m *model) walk(rnd *rand.Rand, n int) []modelStep {
	all := m.steps()
	weight := func(op modelOp) int {
		switch op {
		case opTick, opTry, opBeat, opRenew, opRelease:
			return 3
		case opRun, opWait, opAnswer, opHear, opAsk:
			return 8
		case opLate, opSubscribe, opNotice, opLeave:
			return 5
		}
		return 1
	}
	s := m.start()
	var steps []modelStep
	var e modelEffect
	for len(steps) < n {
		var can []modelStep
		var next modelState
		sum := 0
		for _, a := range all {
			if m.apply(&s, a, &next, &e) {
				can = append(can, a)
				sum += weight(a.op)
			}
		}
		pick := rnd.IntN(sum)
		i := 0
		for pick -= weight(can[0].op); pick >= 0; pick -= weight(can[i].op) {
			i++
		}
		m.apply(&s, can[i], &next, &e)
		if s = next; e.wrong != "" {
			return append(steps, can[i])
		}
		steps = append(steps, can[i])
	}
	return steps
}

// modelTraces are the shortest way to each class of step that the searches found,
// and after those, random ones.
var modelTraces = sync.OnceValues(func() (witnesses, random []*modelTrace) {
	seen := map[modelClass]bool{}
	larger := &model{modelConfig{clients: 3, attempts: 2, faults: 1, ttl: 3, claim: 2}}
	searches := append(slices.Clone(modelSearches()), larger.search(150_000))
	for _, r := range searches {
		var found []*modelTrace
		for class, steps := range r.witnesses {
			if seen[class] {
				continue
			}
			seen[class] = true
			t, err := r.m.play(fmt.Sprintf("witness %+v", class), steps)
			if err == nil && t.class != class {
				err = fmt.Errorf("%s: played it is %+v", t.name, t.class)
			}
			if err != nil {
				panic(err)
			}
			found = append(found, t)
		}
		witnesses = append(witnesses, found...)
	}
	sort.SliceStable(witnesses, func(i, j int) bool {
		a, b := witnesses[i], witnesses[j]
		if len(a.steps) != len(b.steps) {
			return len(a.steps) < len(b.steps)
		}
		return a.name < b.name
	})
	rnd := rand.New(rand.NewPCG(uint64(modelEnv("PEER_MODEL_SEED", 1)), 0))
	for i := range modelEnv("PEER_MODEL_TRACES", 300) {
		c := modelConfig{clients: 3, attempts: 2, faults: 3, ttl: 2, claim: 1}
		if i%2 == 1 {
			c.ttl, c.claim = 3, 2
		}
		m := &model{c}
		t, err := m.play(fmt.Sprintf("random trace %d", i), m.walk(rnd, 60))
		if err != nil {
			panic(err)
		}
		random = append(random, t)
	}
	return witnesses, random
})

// TestModelTraces replays traces of the model on the scripts, on both servers.
func TestModelTraces(t *testing.T) {
	if testcluster.RaceDetector {
		t.Skip("the search takes a minute under the race detector")
	}
	witnesses, random := modelTraces()
	all := append(slices.Clone(witnesses), random...)
	classes := map[modelClass]bool{}
	for _, r := range all {
		for i := range r.moments {
			if e := &r.moments[i].effect; e.call.script != callNone {
				classes[e.class()] = true
			}
		}
	}
	t.Logf("%d witnesses, %d random traces, %d classes of (script, answer, push)", len(witnesses), len(random), len(classes))
	for _, server := range []string{"embedded", "redis-server"} {
		t.Run(server, func(t *testing.T) {
			s := newReplayServer(t, server == "embedded")
			s.load(t, nil)
			began, steps, all := time.Now(), 0, all
			if s.mini != nil {
				all = all[:len(witnesses)+len(random)/5] // it takes ten times as long
			}
			for i, r := range all {
				if err := s.replay(r, i%2 == 1); err != nil {
					t.Fatal(err)
				}
				steps += len(r.steps)
			}
			took := time.Since(began)
			t.Logf("%d traces, %d steps in %v: %.0f traces a second", len(all), steps, took.Round(time.Millisecond), float64(len(all))/took.Seconds())
		})
	}
}
