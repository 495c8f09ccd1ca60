package lockclient_test

// send sends script for the request that c is about.
func (m *model) send(s *modelState, i int, script modelScript) {
	c := &s.clients[i]
	c.call = modelCall{script: script, id: m.id(s, i)}
	switch script {
	case callAcquire:
		c.call.place = c.place
		c.call.loud = c.ear != earNone
	case callBeat:
		c.call.loud = c.ear != earNone
	}
}

// end ends c's attempt.
func (c *modelClient) end() {
	*c = modelClient{msgs: c.msgs, nmsgs: c.nmsgs, used: c.used + 1, ear: c.ear, stray: c.stray}
}

// timed reports whether it matters when c was sent.
func (c *modelCall) timed() bool { return c.script != callRelease && c.script != callLeave }

func (c modelCall) abandoned() modelCall {
	c.age, c.again = 0, false
	return c
}

func (c *modelClient) leave() {
	c.phase, c.belief, c.fence, c.asked, c.known, c.place, c.excuse, c.again, c.renewed = phaseLeave, 0, 0, 0, 0, 0, 0, false, false
}

func (m *model) tick(s *modelState) {
	v := &s.srv
	v.now += modelJump
	if v.ttl > 0 {
		if v.ttl--; v.ttl == 0 {
			v.holder, v.fence = 0, 0
		}
	}
	for i := range v.queue {
		if w := &v.queue[i]; w.left > 0 {
			if w.left--; w.left == 0 {
				w.loud = false // which no longer matters
			}
		}
	}
	for i := range s.clients {
		c := &s.clients[i]
		if c.call.script != callNone && c.call.timed() {
			c.call.age = min(c.call.age+1, m.ttl)
		}
		if c.phase == phaseWait {
			c.asked = min(c.asked+1, m.claim)
		}
		if c.belief > 0 {
			if c.belief--; c.belief == 0 {
				c.leave() // lost, and gives back what the server may hold for it
			}
		}
	}
}

// failover runs c's call on a server that answers and is gone: its replica knows
// nothing of what the call did. Nobody is subscribed there yet.
func (m *model) failover(s *modelState, c *modelClient, e *modelEffect) {
	before := s.srv
	*e = modelEffect{}
	m.run(s, &c.call, e)
	e.failover = true
	m.excuse(s, before)
	s.srv = before
	s.srv.now += modelJump
	m.deafen(s)
}

// excuse excuses the holder, whose hold after does not know, or not all of.
func (m *model) excuse(s *modelState, after modelServer) {
	v := &s.srv
	if v.holder != 0 && v.holder != modelNobody && (after.fence != v.fence || after.ttl < v.ttl) {
		s.clients[m.client(v.holder)].forgive(v.fence)
	}
}

// forgive has c believe in the hold with fence though the server no longer does.
func (c *modelClient) forgive(fence uint16) {
	if !c.renewed {
		c.excuse = fence
	}
	c.renewed = false
}

// deafen breaks all subscriptions.
func (m *model) deafen(s *modelState) {
	for i := range s.clients {
		if o := &s.clients[i]; o.ear == earUp || o.ear == earHalf {
			o.ear = earBroken
		}
	}
}

// giveUp has c's call fail.
func (m *model) giveUp(s *modelState, c *modelClient) {
	if !c.call.answered {
		s.late = c.call.abandoned()
	}
	script := c.call.script
	c.call = modelCall{}
	switch {
	case script == callBeat, script == callRenew, script == callLeave: // once more, later
	case c.phase == phaseWait:
		c.again = true
	default:
		c.leave()
	}
}

// answer has c read the answer to its call.
func (m *model) answer(s *modelState, c *modelClient, i int, e *modelEffect) {
	a := c.call
	c.call = modelCall{}
	switch a.script {
	case callAcquire, callTry:
		switch {
		case a.got == 1 && a.age >= m.ttl:
			c.again = true // it is over already
		case a.got == 1:
			m.hold(c, a.gotFence, m.ttl-a.age)
		case a.script == callTry:
			c.end()
		default:
			if c.place != 0 && c.place != a.gotPlace {
				e.fail("an answer tells another place than one before")
			}
			c.phase = phaseWait
			c.place, c.known, c.asked = a.gotPlace, a.gotFence, min(a.age, m.claim)
		}
	case callBeat:
		if a.got == 0 {
			c.again = true
		} else {
			c.known, c.asked = a.gotFence, min(a.age, m.claim)
		}
	case callRenew:
		switch {
		case c.phase != phaseHold: // too late: it revives nothing
		case a.got == 1:
			c.belief = max(c.belief, m.ttl-a.age)
		default:
			c.end()
		}
	case callRelease:
		c.end()
	case callLeave:
		if c.phase == phaseIdle {
			c.stray = 0
		} else {
			c.end()
		}
	}
}

func (m *model) hold(c *modelClient, fence uint16, belief uint8) {
	c.phase, c.belief, c.fence = phaseHold, belief, fence
	c.again, c.place, c.known, c.asked = false, 0, 0, 0
}

// hear has c read what was said to it first.
func (m *model) hear(s *modelState, c *modelClient, i int) {
	msg := c.msgs[0]
	copy(c.msgs[:], c.msgs[1:])
	c.nmsgs--
	c.msgs[c.nmsgs] = modelMessage{}
	mine := c.phase != phaseIdle && msg.id == m.id(s, i)
	switch {
	case msg.lost:
		if mine && c.phase == phaseHold && msg.fence == c.fence {
			c.end()
		}
	case !mine:
		c.stray = msg.id
	case c.phase == phaseWait && msg.fence > c.known:
		asked := c.asked
		if m.bug == bugGrantCountsFromPush {
			asked = 0
		}
		if asked < m.claim {
			m.hold(c, msg.fence, m.claim-asked)
		} else {
			c.again = true
		}
	}
}
