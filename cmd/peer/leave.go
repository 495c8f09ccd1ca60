package main

import "fmt"

func leaveVerb() *verb {
	return &verb{
		name:  "leave",
		form:  "[--addr ADDR]",
		short: "the running agent says goodbye and stops",
		long: `
Tells the running agent to give its locks back, say goodbye to the cluster and
end. The others see it as left, not as failed. SIGTERM does the same.`,
		examples: `
			peer leave`,
		exits: []int{exitUnavailable, exitRefused},
		group: groupAsk,
		flags: clientFlags(),
		run: func(inv *invocation) error {
			c, err := inv.client()
			if err != nil {
				return err
			}
			if err := c.Leave(inv); err != nil {
				return err
			}
			_, err = fmt.Fprintln(inv.stdout, "leaving")
			return err
		},
	}
}
