//go:build linux

package main

import (
	"crypto/rand"
	"encoding/base64"
	"fmt"
	"slices"
	"time"
)

// newKey draws a gossip key.
func newKey() string {
	key := make([]byte, 32)
	_, _ = rand.Read(key) // never fails
	return base64.StdEncoding.EncodeToString(key)
}

// rotation changes the gossip key while a member is down, which then comes back
// with the key that it had.
func rotation(l *lab) error {
	if l.job.Key == "" {
		l.job.Key = newKey()
	}
	agents, err := l.whole(10, false)
	if err != nil {
		return err
	}
	v := victims(agents, 1)
	rest := without(agents, v...)
	if r := l.until(kill(v...), detectLimit, rest, noneAlive(v...)); !r.ok {
		return fmt.Errorf("%s is not seen to be gone after %v", v[0].Name, detectLimit)
	}
	named, err := l.product.rotate(l.ctx, agents[0].spec, newKey())
	if err != nil {
		return err
	}
	s := sample{Row: "keys-named"}
	if !slices.Contains(named, v[0].Name) {
		s.Value = 1
	}
	l.report(s)
	if err := l.wait(time.Second); err != nil {
		return err
	}
	a, err := l.restart(v[0])
	if err != nil {
		return err
	}
	all := append(rest, a)
	l.reached("keys-back", l.until(a.begun, healLimit, all, allAlive(all...)), healLimit)
	return nil
}
