package main

import (
	"errors"
	"fmt"

	"github.com/peerhq/peer/agent/api"
)

func joinVerb() *verb {
	return &verb{
		name:  "join",
		form:  "[--addr ADDR] HOST[:PORT]...",
		short: "join the running agent to a cluster",
		long: `
Tells the running agent to join the cluster that the peers at the given gossip
addresses belong to. One that answers is enough. An agent that is to do so at
every start is given --join instead, and then tries for ever.`,
		examples: `
			peer join 10.0.0.7
			peer join peer-1.example.net:7946 peer-2.example.net:7946`,
		exits: []int{exitUnavailable, exitRefused},
		group: groupAsk,
		flags: clientFlags(),
		min:   1, max: -1,
		run: func(inv *invocation) error {
			c, err := inv.client()
			if err != nil {
				return err
			}
			res, err := c.Join(inv, splitAll(inv.args))
			for _, addr := range res.Joined {
				fmt.Fprintln(inv.stdout, "joined", cell(addr))
			}
			for _, e := range res.Errors {
				inv.note("%s: %s", cell(e.Addr), cell(e.Error))
			}
			var p *api.Problem
			if errors.As(err, &p) && p.Kind() == api.KindJoinFailed && len(res.Errors) > 0 {
				inv.note("no address answered; the agent goes on as it was")
				return withCode(exitError, nil)
			}
			return err
		},
	}
}
