package main

import "fmt"

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

A peer that is remembered from an earlier run and was not seen since (peer status
names it) is forgotten in the same way. Without this verb all drop a member by
themselves when it has been gone for 72 hours (forget_after).`,
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
			if err := c.Forget(inv, inv.args[0]); err != nil {
				return err
			}
			_, err = fmt.Fprintf(inv.stdout, "forgot %s, in the whole cluster\n", cell(inv.args[0]))
			return err
		},
	}
}
