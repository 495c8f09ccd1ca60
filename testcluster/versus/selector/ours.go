package main

import (
	"github.com/peerhq/peer/selector"
)

// own is our selector of names.
type own struct{ s *selector.Selector[string] }

func newOwn(p selector.Policy, weight func(string) int) *own {
	return &own{selector.New(selector.Config[string]{
		ID:     func(p string) string { return p },
		Seed:   "versus",
		Policy: p,
		Weight: weight,
	})}
}

func (o *own) set(peers []string) { o.s.Set(peers) }

func (o *own) next() string {
	p, err := o.s.Next()
	if err != nil {
		panic(err) // there are always peers here
	}
	return p
}

func (o *own) bench() bench {
	s := o.s
	return bench{loop: func(n int) (length int) {
		for range n {
			p, _ := s.Next()
			length += len(p)
		}
		return length
	}}
}

func (o *own) cursor() bench {
	s := o.s
	return bench{loop: func(n int) (length int) {
		c := s.Cursor()
		for range n {
			p, _ := c.Next()
			length += len(p)
		}
		return length
	}}
}

// turns takes each turn and ends it.
func (o *own) turns() bench {
	s := o.s
	return bench{loop: func(n int) (length int) {
		for range n {
			t, _ := s.Take(selector.Want{})
			length += len(t.Peer)
			t.Done(nil, 0)
		}
		return length
	}}
}

// keys picks by key, with so many turns in hand.
func (o *own) keys(hand int) bench {
	s := o.s
	for i := range hand {
		if _, err := s.Take(selector.Want{Key: keys[i%len(keys)]}); err != nil {
			panic(err)
		}
	}
	return bench{loop: func(n int) (length int) {
		for i := range n {
			p, _ := s.NextFor(keys[i&(len(keys)-1)])
			length += len(p)
		}
		return length
	}}
}
