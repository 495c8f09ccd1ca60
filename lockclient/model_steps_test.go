package lockclient_test

import "fmt"

// A modelStep is one step of the model: of the server, of one client, of time, or
// of chance.
type modelStep struct {
	op modelOp
	i  uint8 // the client
}

type modelOp uint8

const (
	opTick modelOp = iota
	opLate         // a call that its client gave up reaches the server
	opForce
	opLose // Redis starts anew without its data
	opWait // Acquire
	opTry  // TryAcquire
	opRun  // the server runs the call
	opAnswer
	opHear
	opSubscribe
	opNotice // that the subscription broke
	opAsk
	opBeat
	opRenew
	opRelease
	opLeave
	// What goes wrong. Each costs one of the faults.
	opResend     // the connection broke before the call ran, or after: it is sent again
	opGiveUp     // the call fails and may reach the server later, or its answer is lost
	opFailover   // the server runs the call, and fails over to a replica that missed it
	opCrash      // the client's process ends
	opBreak      // the subscription breaks
	opBreakHalf  // the subscription breaks and the server has not noticed
	opCancel     // who waits goes
	opsOf        // number of operations
	opsOfClients = opWait
	opsOfChance  = opResend
)

var modelOpNames = [opsOf]string{
	"tick", "late", "force", "lose data", "wait", "try", "run", "answer", "hear", "subscribe", "notice", "ask", "beat",
	"renew", "release", "leave", "resend", "give up", "failover", "crash", "break", "break half", "cancel",
}

func (a modelStep) String() string {
	if a.op < opsOfClients {
		return modelOpNames[a.op]
	}
	return fmt.Sprintf("%s(%d)", modelOpNames[a.op], a.i)
}

// steps returns all steps that m knows.
func (m *model) steps() []modelStep {
	all := []modelStep{{op: opTick}, {op: opLate}, {op: opForce}, {op: opLose}}
	for i := range m.clients {
		for op := opsOfClients; op < opsOf; op++ {
			all = append(all, modelStep{op, uint8(i)})
		}
	}
	return all
}

// apply takes the step a from s to next, and reports whether it could be taken.
// e is set if a script ran, or an invariant broke.
func (m *model) apply(s *modelState, a modelStep, next *modelState, e *modelEffect) bool {
	chance := a.op >= opsOfChance || a.op == opForce || a.op == opLose
	if chance && s.faults == 0 {
		return false
	}
	c := &s.clients[a.i]
	if !m.can(s, c, a) {
		return false
	}
	*next = *s
	e.call.script, e.wrong = callNone, ""
	if chance {
		next.faults--
	}
	m.take(next, &next.clients[a.i], a, e)
	m.check(next, e)
	return true
}

// can reports whether the step is possible.
func (m *model) can(s *modelState, c *modelClient, a modelStep) bool {
	quiet := c.call.script == callNone
	switch a.op {
	case opTick:
		// A call takes at most ttl, unless it is given up, and who is called often
		// hears it in the end.
		for i := range m.clients {
			if c := &s.clients[i]; c.call.age >= m.ttl || c.nmsgs > 1 {
				return false
			}
		}
		return true
	case opLate:
		return s.late.script != callNone
	case opForce:
		return s.srv.holder != 0
	case opLose:
		return s.srv.last != 0
	case opWait, opTry:
		return c.phase == phaseIdle && int(c.used) < m.attempts && quiet && c.stray == 0
	case opRun, opFailover:
		return !quiet && !c.call.answered
	case opAnswer:
		return c.call.answered
	case opHear:
		return c.nmsgs > 0 && quiet && c.phase != phaseAsk
	case opSubscribe:
		return c.ear == earNone && (c.phase == phaseWait || c.phase == phaseHold)
	case opNotice:
		return c.ear == earBroken || c.ear == earHalf
	case opAsk:
		return c.again && quiet
	case opBeat:
		return c.phase == phaseWait && !c.again && quiet && c.asked > 0 && m.bug != bugNoBeat
	case opRenew:
		return c.phase == phaseHold && quiet && c.belief < m.ttl
	case opRelease:
		return c.phase == phaseHold && quiet
	case opLeave:
		return quiet && (c.phase == phaseLeave || c.phase == phaseIdle && c.stray != 0)
	case opResend:
		return c.call.answered && (c.call.script == callAcquire || c.call.script == callTry)
	case opGiveUp:
		return !quiet && (c.call.answered || s.late.script == callNone)
	case opCrash:
		return c.phase != phaseIdle && c.phase != phaseOff
	case opBreak, opBreakHalf:
		return c.ear == earUp
	case opCancel:
		return c.phase == phaseWait && quiet
	}
	return false
}

// take takes the step a, which is possible.
func (m *model) take(s *modelState, c *modelClient, a modelStep, e *modelEffect) {
	i := int(a.i)
	switch a.op {
	case opTick:
		m.tick(s)
	case opLate:
		*e = modelEffect{}
		m.run(s, &s.late, e)
		s.late = modelCall{}
	case opForce:
		*e = modelEffect{}
		m.run(s, &modelCall{script: callForce}, e)
	case opLose:
		m.excuse(s, modelServer{})
		s.srv = modelServer{now: s.srv.now + modelJump}
		m.deafen(s)
	case opWait:
		c.phase = phaseAsk
		m.send(s, i, callAcquire)
	case opTry:
		c.phase = phaseTry
		m.send(s, i, callTry)
	case opRun:
		*e = modelEffect{}
		m.run(s, &c.call, e)
	case opFailover:
		m.failover(s, c, e)
	case opAnswer:
		m.answer(s, c, i, e)
	case opHear:
		m.hear(s, c, i)
	case opSubscribe:
		c.ear = earUp
		c.again = c.again || c.phase == phaseWait
	case opNotice:
		c.ear = earNone
	case opAsk:
		script := callAcquire
		if c.phase == phaseTry {
			script = callTry
		}
		m.send(s, i, script)
		c.call.again, c.again = true, false
	case opBeat:
		m.send(s, i, callBeat)
	case opRenew:
		m.send(s, i, callRenew)
	case opRelease:
		c.phase, c.belief, c.fence, c.excuse, c.renewed = phaseRelease, 0, 0, 0, false
		m.send(s, i, callRelease)
	case opLeave:
		m.send(s, i, callLeave)
		if c.phase == phaseIdle {
			c.call.id = c.stray
		}
	case opResend:
		c.call.answered, c.call.got, c.call.gotFence, c.call.gotPlace = false, 0, 0, 0
	case opGiveUp:
		m.giveUp(s, c)
	case opCrash:
		if c.call.script != callNone && !c.call.answered && s.late.script == callNone {
			s.late = c.call.abandoned()
		}
		*c = modelClient{phase: phaseOff, used: c.used}
	case opBreak, opBreakHalf:
		c.ear = earBroken
		if a.op == opBreakHalf {
			c.ear = earHalf
		}
		c.msgs, c.nmsgs = [3]modelMessage{}, 0
	case opCancel:
		c.leave()
	}
}

// check checks what holds in every state: whoever believes that it holds the lock
// is who the server says, for at least as long, with the same fence; except after
// a hold was taken by force or lost in a failover, until its client knows.
func (m *model) check(s *modelState, e *modelEffect) {
	for i := range m.clients {
		c := &s.clients[i]
		excused := c.excuse != 0 && c.excuse == c.fence
		if c.belief == 0 || excused && !c.renewed {
			continue
		}
		v := &s.srv
		if v.holder != m.id(s, i) || v.ttl < c.belief || v.fence != c.fence && !excused {
			e.fail(fmt.Sprintf("client %d believes in fence %d for %d ticks", i, c.fence, c.belief))
		}
	}
}

// fair returns the step that follows s when nothing goes wrong any more, and
// false when nobody has anything to do. Nobody begins anew, and whoever holds
// releases at once.
func (m *model) fair(s *modelState) (modelStep, bool) {
	if s.late.script != callNone {
		return modelStep{op: opLate}, true
	}
	order := [...]modelOp{opRun, opAnswer, opHear, opLeave, opAsk, opNotice, opSubscribe, opRelease, opBeat}
	for _, op := range order {
		for i := range m.clients {
			if c := &s.clients[i]; m.can(s, c, modelStep{op, uint8(i)}) && c.phase != phaseOff {
				return modelStep{op, uint8(i)}, true
			}
		}
	}
	for i := range m.clients {
		if p := s.clients[i].phase; p != phaseIdle && p != phaseOff {
			return modelStep{op: opTick}, true
		}
	}
	return modelStep{}, false
}
