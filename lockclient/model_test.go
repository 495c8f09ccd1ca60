package lockclient_test

// A model of one lock that is held alone: what the scripts do to its keys, what a
// client does with their answers, and what goes wrong between the two. Time goes
// in ticks. A call is sent, runs on the server in one step, and is answered; any
// step of another, and any tick, may come between.
//
// The model leaves out shared holds, replicas that are waited for, and more than
// one call of a client at a time. A failover loses what one script did, right after
// that script; a replica that is further behind is as one that lost all.

const (
	modelClients = 3
	modelIDs     = 6            // requests of all clients
	modelJump    = 16           // of the clock, by a tick or a failover: more than it is outrun by within one
	modelNobody  = modelIDs + 1 // holds a lock that waits for its waiters to come back
)

// A modelConfig bounds a model.
type modelConfig struct {
	clients, attempts, faults int
	ttl, claim                uint8 // ticks
	bug                       modelBug
}

// A modelBug is a fault of the model, to see that an invariant finds it.
type modelBug uint8

const (
	bugNone modelBug = iota
	bugLosesPlace
	bugReleaseCallsNobody
	bugRenewTakesAny
	bugGrantCountsFromPush
	bugFenceNotRaised
	bugNoBeat
)

type modelWaiter struct {
	place uint16 // in the queue; 0 for none
	left  uint8  // ticks until it counts as cut off; 0 when it does
	loud  bool   // its ear is P: silence proves that it is gone
}

type modelServer struct {
	now    uint16 // the clock that fences and places are taken from
	last   uint16 // the fence counter; 0 for none
	lastAt uint16 // the same, to be compared with places: a search numbers those apart
	fence  uint16 // of the hold
	holder uint8  // id; 0 for none
	ttl    uint8  // ticks left of the hold
	queue  [modelIDs]modelWaiter
}

type modelScript uint8

const (
	callNone modelScript = iota
	callAcquire
	callTry
	callRelease
	callRenew
	callLeave
	callBeat
	callForce
)

var modelScriptNames = [...]string{"", "acquire", "try", "release", "renew", "leave", "beat", "force"}

// A modelCall is a call on its way to the server, or its answer on the way back.
type modelCall struct {
	place    uint16 // asked with
	gotFence uint16
	gotPlace uint16
	script   modelScript
	id       uint8
	age      uint8 // ticks since it was sent, at most ttl
	loud     bool
	again    bool
	answered bool
	got      int16 // 1, 0, -1; of a beat the position
}

type modelMessage struct {
	fence uint16
	id    uint8
	lost  bool // else a grant
}

type modelPhase uint8

const (
	phaseIdle modelPhase = iota
	phaseAsk             // the first question has no answer yet
	phaseTry
	phaseWait
	phaseHold
	phaseRelease
	phaseLeave
	phaseOff // crashed
)

// modelEar says how a client's subscription stands.
type modelEar uint8

const (
	earNone   modelEar = iota // nobody subscribed, and the client knows
	earUp                     // what is said is heard
	earBroken                 // the server knows, the client does not
	earHalf                   // neither knows: what is said is lost
)

type modelClient struct {
	place  uint16 // from an answer, or 0
	known  uint16 // the last fence that an answer told while waiting
	fence  uint16 // of the hold it believes in
	excuse uint16 // fence of a hold taken by force or by a failover
	msgs   [3]modelMessage
	call   modelCall
	nmsgs  uint16
	phase  modelPhase
	used   uint8 // attempts that are over
	asked  uint8 // age of the last answer that found it queued, at most claim
	belief uint8 // ticks left of the hold
	ear    modelEar
	again  bool  // ask again
	stray  uint8 // id that was granted something after the client gave it up
	// An excused hold was renewed: the same request got the lock again after a
	// failover, and goes on with the fence of the grant that was lost.
	renewed bool
}

type modelState struct {
	srv     modelServer
	top     uint16 // greatest fence ever granted
	clients [modelClients]modelClient
	late    modelCall // given up by its client, and may still reach the server
	faults  uint16    // left
}

// A model is a modelConfig that runs.
type model struct {
	modelConfig
}

func (m *model) start() modelState {
	return modelState{srv: modelServer{now: modelJump}, faults: uint16(m.faults)}
}

func (m *model) client(id uint8) int { return (int(id) - 1) / m.attempts }

func (m *model) id(s *modelState, i int) uint8 {
	return uint8(i*m.attempts) + s.clients[i].used + 1
}

func (e *modelEffect) fail(why string) {
	if e.wrong == "" {
		e.wrong = why
	}
}

// hears reports whether the server counts a subscriber when it calls client i.
func (s *modelState) hears(i int) bool {
	c := &s.clients[i]
	return c.phase != phaseOff && (c.ear == earUp || c.ear == earHalf)
}

// publish is PUBLISH in a script.
func (m *model) publish(s *modelState, msg modelMessage, e *modelEffect) bool {
	i := m.client(msg.id)
	heard := s.hears(i)
	e.pushes[e.npushes] = modelPush{msg, heard}
	e.npushes++
	if c := &s.clients[i]; heard && c.ear == earUp {
		if int(c.nmsgs) == len(c.msgs) {
			e.fail("the model has too little room for messages")
			return heard
		}
		c.msgs[c.nmsgs] = msg
		c.nmsgs++
	}
	return heard
}

// nextFence is fence.lua.
func (m *model) nextFence(s *modelState, e *modelEffect) uint16 {
	f := s.srv.now
	if s.srv.last >= f {
		f, e.risen = s.srv.last+1, true
		if m.bug == bugFenceNotRaised {
			f--
		}
	}
	s.srv.last = f
	s.srv.lastAt = max(s.srv.now, s.srv.lastAt+1)
	return f
}

func (m *model) grant(s *modelState, id uint8, fence uint16, ttl uint8, e *modelEffect) {
	if fence <= s.top {
		e.fail("a fence did not rise")
	}
	s.top = max(s.top, fence)
	s.srv.holder, s.srv.fence, s.srv.ttl = id, fence, ttl
	e.granted = id
}

// first returns the first in the queue, 0 for none, and position that of id.
func (v *modelServer) first() uint8 {
	var best uint8
	for i := range v.queue {
		if p := v.queue[i].place; p != 0 && (best == 0 || p < v.queue[best-1].place) {
			best = uint8(i + 1)
		}
	}
	return best
}

func (v *modelServer) position(id uint8) int {
	n, p := 1, v.queue[id-1].place
	if p == 0 {
		return 0
	}
	for i := range v.queue {
		q := v.queue[i].place
		if q != 0 && (q < p || q == p && i < int(id-1)) {
			n++
		}
	}
	return n
}

// handOver is handover.lua; it reports whether me got the lock.
func (m *model) handOver(s *modelState, me uint8, e *modelEffect) bool {
	for {
		id := s.srv.first()
		if id == 0 {
			return false
		}
		w := s.srv.queue[id-1]
		s.srv.queue[id-1] = modelWaiter{}
		fence := m.nextFence(s, e)
		switch {
		case id == me:
			m.grant(s, id, fence, m.ttl, e)
			return true
		case w.left == 0:
			e.dead++
		case m.publish(s, modelMessage{fence: fence, id: id}, e) || !w.loud:
			m.grant(s, id, fence, m.claim, e)
			return false
		default:
			e.unheard++
		}
	}
}

// run runs c's script on the server, and fills in its answer.
func (m *model) run(s *modelState, c *modelCall, e *modelEffect) {
	v := &s.srv
	e.before = m.before(v, c.id)
	checked := true // the lock must not stay free while somebody waits
	switch c.script {
	case callAcquire, callTry:
		m.acquire(s, c, e)
	case callRelease:
		checked = m.release(s, c, e)
	case callLeave:
		v.queue[c.id-1] = modelWaiter{}
		held := v.holder != 0
		switch {
		case v.holder == c.id:
			v.holder, v.fence, v.ttl = 0, 0, 0
			m.handOver(s, 0, e)
			c.got = 1
		case held:
			c.got = -1
		default:
			m.handOver(s, 0, e)
			if v.holder != 0 {
				c.got = -1
			}
		}
	case callRenew:
		checked = false
		switch {
		case v.holder == c.id || m.bug == bugRenewTakesAny && v.holder != 0:
			v.ttl, c.got = m.ttl, 1
			// renew.lua asks for the id, not for the fence.
			if o := &s.clients[m.client(c.id)]; o.fence == v.fence {
				o.excuse = 0
			} else {
				o.renewed = o.phase == phaseHold
			}
		case v.holder != 0:
			c.got = -1
		}
	case callBeat:
		if v.holder == 0 {
			m.handOver(s, 0, e)
		}
		if w := &v.queue[c.id-1]; w.place != 0 {
			w.left, w.loud = m.claim, c.loud
		}
		e.position = v.position(c.id)
		c.got = int16(e.position)
		c.gotFence = v.last
		if v.holder != 0 {
			c.gotFence = v.fence
		}
	case callForce:
		checked = v.holder != 0
		if v.holder != 0 {
			e.holder, e.fence, e.ttl = v.holder, v.fence, v.ttl
			if v.holder != modelNobody {
				s.clients[m.client(v.holder)].forgive(v.fence)
				m.publish(s, modelMessage{fence: v.fence, id: v.holder, lost: true}, e)
			}
			v.holder, v.fence, v.ttl = 0, 0, 0
			m.handOver(s, 0, e)
		}
	}
	if c.script != callForce {
		e.holder, e.ttl, e.fence = v.holder, v.ttl, c.gotFence
	}
	c.answered = true
	e.call = *c
	// What the client does not look at makes no other state.
	if !c.timed() {
		c.got = 0
	}
	if c.script == callBeat {
		c.loud = false
		c.got = min(c.got, 1)
	}
	if checked && v.holder == 0 {
		for i := range v.queue {
			w := v.queue[i]
			if w.place != 0 && w.left > 0 && (!w.loud || s.hears(m.client(uint8(i+1)))) {
				e.fail("the lock is free while somebody waits who would hear")
			}
		}
	}
}

// acquire is acquire.lua.
func (m *model) acquire(s *modelState, c *modelCall, e *modelEffect) {
	v := &s.srv
	held := func() { c.got, c.gotFence = 1, v.fence }
	switch {
	case v.holder == 0 && v.first() == 0 && c.place > v.lastAt:
		// The data was lost: those who waited before it get a moment to ask, too.
		m.grant(s, modelNobody, m.nextFence(s, e), 1, e)
	case v.holder == 0 && v.first() == 0:
		m.grant(s, c.id, m.nextFence(s, e), m.ttl, e)
		held()
		return
	case v.holder == c.id:
		v.ttl = m.ttl
		held()
		return
	}
	if c.script == callAcquire {
		w := &v.queue[c.id-1]
		e.existed = w.place != 0
		place := c.place
		switch {
		case place == 0 && e.existed && m.bug != bugLosesPlace:
			place = w.place
		case place == 0:
			place = v.now
			for i := range v.queue {
				place = max(place, v.queue[i].place+1)
			}
		}
		if e.existed && w.place != place {
			e.fail("a place was lost while its record lived")
		}
		*w = modelWaiter{place: place, left: m.claim, loud: c.loud}
		c.gotPlace = place
	}
	if v.holder == 0 {
		if m.handOver(s, c.id, e) {
			c.gotPlace = 0
			held()
			return
		}
		if c.script == callTry && v.holder == 0 {
			m.grant(s, c.id, m.nextFence(s, e), m.ttl, e)
			held()
			return
		}
	}
	if c.script == callAcquire {
		e.position = v.position(c.id)
	}
	c.got, c.gotFence = 0, v.fence
}

// release is release.lua; it reports whether it freed the lock.
func (m *model) release(s *modelState, c *modelCall, e *modelEffect) bool {
	v := &s.srv
	switch {
	case v.holder == 0:
		c.got = 0
		return false
	case v.holder != c.id:
		c.got = -1
		return false
	}
	v.holder, v.fence, v.ttl = 0, 0, 0
	if m.bug != bugReleaseCallsNobody {
		m.handOver(s, 0, e)
	}
	c.got = 1
	return true
}
