package main

import (
	"context"
	"io"

	"github.com/go-kit/kit/endpoint"
	"github.com/go-kit/kit/sd"
	"github.com/go-kit/kit/sd/lb"
	"github.com/go-kit/log"
)

// kit is go-kit's round robin over an endpointer that follows an instancer.
type kit struct {
	events chan<- sd.Event
	lb     lb.Balancer
}

func newKit() *kit {
	k := &kit{}
	endpointer := sd.NewEndpointer(k, func(instance string) (endpoint.Endpoint, io.Closer, error) {
		return func(context.Context, any) (any, error) { return instance, nil }, nil, nil
	}, log.NewNopLogger())
	k.lb = lb.NewRoundRobin(endpointer)
	return k
}

// Register, Deregister and Stop are those of an sd.Instancer.
func (k *kit) Register(ch chan<- sd.Event) { k.events = ch }
func (k *kit) Deregister(chan<- sd.Event)  {}
func (k *kit) Stop()                       {}

// set tells the endpointer twice: the second one is taken when it is done with
// the first. Then it has nothing more to do.
func (k *kit) set(peers []string) {
	e := sd.Event{Instances: append([]string(nil), peers...)}
	k.events <- e
	k.events <- sd.Event{Err: io.EOF} // keeps what there is
}

func (k *kit) next() string {
	e, err := k.lb.Endpoint()
	if err != nil {
		panic(err) // there are always peers here
	}
	name, _ := e(context.Background(), nil)
	return name.(string)
}

func (k *kit) bench() bench {
	return bench{loop: func(n int) (length int) {
		for range n {
			if e, _ := k.lb.Endpoint(); e != nil {
				length++
			}
		}
		return length
	}}
}
