package main

import "fmt"

func forgetVerb() *verb {
	return &verb{
		name:  "forget",
		form:  "[--addr ADDR] NAME",
		short: "drop a member that is failed or left",
		long: `
Has the running agent drop a member that will not come back, so that it is
neither shown nor dialled any more. Only this agent forgets it; the others drop
it by themselves when it has been gone for 72 hours. A member that is alive or
suspect is refused: stop it with peer leave on its host. If it starts again it
is a member like any other.`,
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
			_, err = fmt.Fprintln(inv.stdout, "forgot", cell(inv.args[0]))
			return err
		},
	}
}
