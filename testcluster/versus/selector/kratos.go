package main

import (
	"context"
	"fmt"

	"github.com/go-kratos/kratos/v2/registry"
	"github.com/go-kratos/kratos/v2/selector"
)

// kratos is a selector of go-kratos.
type kratos struct {
	s      selector.Selector
	weight func(string) int
	nodes  map[string]selector.Node // one for each name, as a registry keeps them
}

func newKratos(s selector.Selector, weight func(string) int) *kratos {
	return &kratos{s, weight, map[string]selector.Node{}}
}

func (k *kratos) set(peers []string) {
	nodes := make([]selector.Node, len(peers))
	for i, p := range peers {
		n := k.nodes[p]
		if n == nil {
			w := 1
			if k.weight != nil {
				w = k.weight(p)
			}
			n = selector.NewNode("http", p, &registry.ServiceInstance{ID: p, Name: "web", Metadata: map[string]string{"weight": fmt.Sprint(w)}})
			k.nodes[p] = n
		}
		nodes[i] = n
	}
	k.s.Apply(nodes)
}

func (k *kratos) next() string {
	n, done, err := k.s.Select(context.Background())
	if err != nil {
		panic(err) // there are always peers here
	}
	done(context.Background(), selector.DoneInfo{})
	return n.Address()
}

func (k *kratos) bench() bench {
	ctx := context.Background()
	return bench{loop: func(n int) (length int) {
		for range n {
			p, _, _ := k.s.Select(ctx)
			length += len(p.Address())
		}
		return length
	}}
}

func (k *kratos) turns() bench {
	ctx := context.Background()
	return bench{loop: func(n int) (length int) {
		for range n {
			p, done, _ := k.s.Select(ctx)
			length += len(p.Address())
			done(ctx, selector.DoneInfo{})
		}
		return length
	}}
}
