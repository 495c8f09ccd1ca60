package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/peerhq/peer/lockclient"
	"github.com/urfave/cli/v2"
)

func unlockVerb() *verb {
	return &verb{
		name:  "unlock",
		form:  "--force [--redis URL] [--config FILE] NAME",
		short: "take a lock from its holder, by force",
		long: `
Takes the lock NAME from the process that holds it and hands it to the next one in
line. The holder is told at once and stops its COMMAND, but for a moment both may
run: a resource that checks the fence refuses the old one. Not needed after a
crash: the lock of a dead holder ends by itself.`,
		examples: `
			# who has it?
			peer locks deploy
			peer unlock --force deploy`,
		exits: []int{exitNo, exitUnavailable, exitRefused, exitConfig},
		group: groupLock,
		flags: append([]cli.Flag{
			&cli.BoolFlag{Name: "force", Usage: "yes, take it"},
			&cli.StringFlag{Name: "addr", Usage: "the agent at `ADDR` to ask for a Redis when none is set (default 127.0.0.1:7980) [$PEER_HTTP_ADDR]"},
		}, flagsOf("redis.url")...),
		min: 1, max: 1,
		late: []string{"--force"},
		run:  runUnlock,
	}
}

func runUnlock(inv *invocation) error {
	name := inv.args[0]
	if !inv.cli.Bool("force") {
		return inv.usage("taking a lock from its holder needs --force; `peer locks %s` says who it is", name)
	}
	cfg, err := inv.lockSettings()
	if err != nil {
		return err
	}
	client, err := lockclient.Start(cfg)
	if err != nil {
		return withCode(exitConfig, fmt.Errorf("unlock: %w", err))
	}
	defer client.Close()
	ctx, cancel := context.WithTimeout(inv, 10*time.Second)
	defer cancel()
	info, err := client.ForceRelease(ctx, name)
	var u *lockclient.UnavailableError
	switch {
	case errors.Is(err, lockclient.ErrNotHeld):
		inv.note("nobody holds the lock %s", cell(name))
		return withCode(exitNo, nil)
	case errors.Is(err, lockclient.ErrBadName):
		return inv.usage("%v", err)
	case errors.As(err, &u):
		return withCode(codeOfRedis(u), fmt.Errorf("unlock: %w", u))
	case err != nil:
		return fmt.Errorf("unlock: %w", err)
	}
	holder := "somebody"
	if info.Holder != nil {
		holder = info.Holder.String()
	}
	_, err = fmt.Fprintf(inv.stdout, "took %s from %s, fence %d\n", cell(name), cell(holder), info.Fence)
	return err
}
