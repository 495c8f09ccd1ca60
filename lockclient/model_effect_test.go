package lockclient_test

// A modelEffect is what a step did on the server, for a replay and for coverage.
type modelEffect struct {
	call     modelCall // script callNone: nothing ran
	position int
	ttl      uint8 // of the hold that the answer tells; 0 for none
	holder   uint8
	fence    uint16
	pushes   [4]modelPush
	npushes  int
	dead     int  // waiters passed over because their time was over
	unheard  int  // waiters passed over because nobody heard
	risen    bool // a fence was raised by one, not to the time
	existed  bool // it had a place before
	before   modelBefore
	granted  uint8
	failover bool
	wrong    string // the invariant that broke
}

type modelPush struct {
	modelMessage
	heard bool
}

// A modelBefore is what a script finds: the hold is none (0), the caller's (1, or 2
// if some of its time is over), another's (3) or nobody's (4); the caller's place
// is none (0), fresh (1), older (2) or cut off (3).
type modelBefore struct{ hold, record int8 }

func (m *model) before(v *modelServer, id uint8) (b modelBefore) {
	switch {
	case v.holder == 0:
	case v.holder == modelNobody:
		b.hold = 4
	case v.holder != id:
		b.hold = 3
	case v.ttl < m.ttl:
		b.hold = 2
	default:
		b.hold = 1
	}
	if id == 0 {
		return b
	}
	switch w := v.queue[id-1]; {
	case w.place == 0:
	case w.left == m.claim:
		b.record = 1
	case w.left > 0:
		b.record = 2
	default:
		b.record = 3
	}
	return b
}

// A modelClass is a kind of thing that a script does.
type modelClass struct {
	before                                       modelBefore
	script                                       modelScript
	got                                          int16
	again, placed, existed, loud, raised, missed bool
	granted                                      int8 // 1 to who asked, 2 to another
	dead, unheard, position                      int8
	grants, losses                               [2]int8 // unheard, heard
}

func (e *modelEffect) class() modelClass {
	c := modelClass{
		before: e.before, script: e.call.script, got: e.call.got, again: e.call.again, placed: e.call.place != 0, existed: e.existed,
		loud: e.call.loud, raised: e.risen, missed: e.failover, dead: int8(e.dead), unheard: int8(e.unheard), position: int8(e.position),
	}
	switch e.granted {
	case 0:
	case e.call.id:
		c.granted = 1
	default:
		c.granted = 2
	}
	for _, p := range e.pushes[:e.npushes] {
		to := &c.grants
		if p.lost {
			to = &c.losses
		}
		if p.heard {
			to[1]++
		} else {
			to[0]++
		}
	}
	return c
}
