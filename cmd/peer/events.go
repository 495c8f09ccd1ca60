package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/peerhq/peer/agent/api"
	"github.com/urfave/cli/v2"
)

// recentEvents is how many past events `peer events` begins with.
const recentEvents = 10

func eventsVerb() *verb {
	return &verb{
		name:  "events",
		form:  "[--since SEQ] [--no-follow] [-o FORMAT] [--addr ADDR]",
		short: "follow what happens in the cluster",
		long: `
Prints what happens, one line an event, as it happens: members that join, fall
and leave, locks that are taken, given back and lost, the Redis going and coming.
It begins with the last ten events, or with those behind --since, and goes on
until it is interrupted. When the connection breaks it is made anew, and goes on
where it was.

With -o json or jsonl each line is one event as JSON.`,
		examples: `
			# watch
			peer events
			# everything that the agent remembers, and no more
			peer events --since 0 --no-follow -o jsonl`,
		exits: []int{exitUnavailable, exitRefused, exitSignal},
		group: groupAsk,
		flags: clientFlags(
			&cli.Uint64Flag{Name: "since", Usage: "begin behind event `SEQ`; 0: with the oldest that is remembered"},
			&cli.BoolFlag{Name: "no-follow", Usage: "end when the events so far are printed"},
			outputFlag()),
		run: runEvents,
	}
}

func runEvents(inv *invocation) error {
	f, err := inv.format()
	if err != nil {
		return err
	}
	c, err := inv.client()
	if err != nil {
		return err
	}
	status, err := c.Status(inv)
	if err != nil {
		return err
	}
	last := status.Events.Seq
	since := inv.cli.Uint64("since")
	if !inv.has("since") && last > recentEvents {
		since = last - recentEvents
	}
	if inv.cli.Bool("no-follow") {
		if since >= last {
			return nil
		}
		for e, err := range c.Events(inv, since) {
			if err != nil {
				return err
			}
			if err := inv.printEvent(f, e); err != nil {
				return err
			}
			if e.Seq >= last {
				break
			}
		}
		return nil
	}
	for e, err := range c.Follow(inv, since) {
		if err != nil {
			var p *api.Problem
			if inv.Err() != nil || (errors.As(err, &p) && p.Status < 500) {
				return err
			}
			inv.note("%s; trying again until it does", cell(err.Error()))
			continue
		}
		if err := inv.printEvent(f, e); err != nil {
			return err
		}
	}
	return inv.Err()
}

func (inv *invocation) printEvent(f format, e api.Event) error {
	switch f.kind {
	case "json", "jsonl", "template":
		b, err := json.Marshal(e)
		if err != nil {
			return err
		}
		if f.kind == "json" {
			f.kind = "jsonl"
		}
		return inv.printItems(f, document{body: b})
	case "name":
		name := ""
		switch {
		case e.Member != nil:
			name = e.Member.Name
		case e.Lock != nil:
			name = e.Lock.Name
		}
		_, err := fmt.Fprintln(inv.stdout, cell(name))
		return err
	}
	line := fmt.Sprintf("%s  %6d  %-13s  %s", e.At.Local().Format(time.DateTime), e.Seq, cell(e.Type), cell(e.Text))
	if style := eventStyle(e.Type); style != styleNone && inv.colour(inv.stdout) {
		line = style + line + styleEnd
	}
	_, err := fmt.Fprintln(inv.stdout, line)
	return err
}

func eventStyle(kind string) string {
	switch kind {
	case "failed", "lock_lost", "redis_down":
		return styleBad
	case "suspect", "reset":
		return styleWarn
	case "left", "forgotten":
		return styleFaint
	}
	return styleNone
}
