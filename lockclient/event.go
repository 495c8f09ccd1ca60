package lockclient

import (
	"sync"
	"time"
)

// EventType names what an Event tells.
type EventType string

// The types of events.
const (
	LockAcquired EventType = "lock_acquired"
	LockReleased EventType = "lock_released"
	LockLost     EventType = "lock_lost"
	RedisUp      EventType = "redis_up"
	RedisDown    EventType = "redis_down"
)

// An Event is something that happened to a lock of this client, or to Redis.
type Event struct {
	Type   EventType
	Name   string // of the lock; empty for redis_up and redis_down
	Fence  uint64
	At     time.Time
	Took   time.Duration // to get it, for lock_acquired; else how long it was held
	Reason string        // why it was lost, or what is wrong with Redis
}

// events delivers in order, from its one goroutine, which lives from start to
// stop. send never blocks.
type events struct {
	deliver func(Event)
	wake    chan struct{}
	done    chan struct{}

	mu      sync.Mutex
	queue   []Event
	stopped bool
}

func startEvents(deliver func(Event)) *events {
	e := &events{deliver: deliver, wake: make(chan struct{}, 1), done: make(chan struct{})}
	if deliver == nil {
		close(e.done)
		return e
	}
	go e.loop()
	return e
}

func (e *events) send(ev Event) {
	if e.deliver == nil {
		return
	}
	ev.At = time.Now()
	e.mu.Lock()
	if !e.stopped {
		e.queue = append(e.queue, ev)
	}
	e.mu.Unlock()
	e.signal()
}

func (e *events) signal() {
	select {
	case e.wake <- struct{}{}:
	default:
	}
}

func (e *events) loop() {
	defer close(e.done)
	for range e.wake {
		e.mu.Lock()
		queue, stopped := e.queue, e.stopped
		e.queue = nil
		e.mu.Unlock()
		for _, ev := range queue {
			e.deliver(ev)
		}
		if stopped {
			return
		}
	}
}

// mute drops what was not delivered yet, and whatever comes.
func (e *events) mute() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.stopped, e.queue = true, nil
}

// stop delivers what was sent, and returns when the goroutine has ended.
func (e *events) stop() {
	e.mu.Lock()
	e.stopped = true
	e.mu.Unlock()
	e.signal()
	<-e.done
}
