package main

import (
	"fmt"

	"github.com/peerhq/peer/agent/api"
)

func forgetVerb() *verb {
	return &verb{
		name:  "forget",
		form:  "[--addr ADDR] NAME",
		short: "drop a member that is gone, for the whole cluster",
		long: `
Drops a member that will not come back, so that nobody shows or dials it any
more. It holds for the whole cluster: one agent is told, and all forget. A member
that is alive or suspect is refused: stop it with peer leave on its host. If it
starts again it is a member like any other.

A peer that an agent remembers from an earlier run and has not seen since its
start (peer status names it) is forgotten by the agent that is asked; any other
that remembers it is asked itself. Without this verb all drop a member by themselves
when it has been gone for 72 hours (forget_after).`,
		examples: `
			peer forget old-host`,
		exits: []int{exitUnavailable, exitRefused},
		group: groupAsk,
		flags: clientFlags(),
		min:   1, max: 1,
		run: func(inv *invocation) error {
			c, err := inv.client()
			if err != nil {
				return err
			}
			f, err := c.ForgetMember(inv, inv.args[0])
			if err != nil {
				return err
			}
			where := "in the whole cluster"
			if f.Scope == api.ScopeAgent {
				where = "by this agent, which had not seen it since its start; others that remember it are asked themselves"
			}
			_, err = fmt.Fprintf(inv.stdout, "forgot %s, %s\n", cell(inv.args[0]), where)
			return err
		},
	}
}
