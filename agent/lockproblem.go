package agent

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/peerhq/peer/agent/api"
	"github.com/peerhq/peer/lockclient"
)

// lockError makes what the lock client says about the lock name a problem, or
// returns the error of a context.
func lockError(name string, err error) error {
	var p *api.Problem
	var held *lockclient.HeldError
	switch {
	case errors.As(err, &p):
		return p
	case errors.Is(err, lockclient.ErrBadName):
		text := strings.TrimPrefix(oneLine(err), "acquire lock: ")
		return api.NewProblem(http.StatusBadRequest, api.KindBadRequest, text,
			fmt.Sprintf("name a lock with 1 to %d bytes of UTF-8 without control characters, and escape it in the path (/ as %%2F)", lockclient.MaxName))
	case errors.As(err, &held):
		text := fmt.Sprintf("others wait for lock %q", name)
		if held.Holder.Node != "" {
			text = fmt.Sprintf("lock %q is held by %s", name, held.Holder)
		}
		out := api.NewProblem(http.StatusConflict, api.KindLockHeld, text, "wait for it with wait_ms, or with …/hold")
		out.Holder = apiHolder(held.Holder)
		return out
	case errors.Is(err, lockclient.ErrNotHeld):
		return api.NewProblem(http.StatusNotFound, api.KindNoLock,
			fmt.Sprintf("nobody holds lock %q", name), "see /v1/locks for those in use")
	case errors.Is(err, errLeaving), errors.Is(err, lockclient.ErrClosed):
		return stoppingProblem()
	case errors.Is(err, lockclient.ErrLost), errors.Is(err, lockclient.ErrReleased):
		return lostProblem(name, err)
	case errors.Is(err, lockclient.ErrUnavailable), errors.Is(err, errSlowRedis):
		return redisProblem(err)
	case errors.Is(err, context.Canceled):
		return err
	}
	return redisProblem(err)
}

// redisProblem shows why Redis did not do what was asked, with its fix.
func redisProblem(err error) error {
	detail, fix := oneLine(err), "see `peer status` for the Redis that this agent uses"
	var u *lockclient.UnavailableError
	if errors.As(err, &u) {
		detail = oneLine(fmt.Errorf("redis %s: %s: %w", u.Addr, u.Cause, u.Err))
		if u.Fix != "" {
			fix = u.Fix
		}
	}
	return api.NewProblem(http.StatusBadGateway, api.KindRedis, detail, fix)
}

// lostProblem tells the client of a lease that it no longer holds the lock.
func lostProblem(name string, err error) error {
	return api.NewProblem(http.StatusConflict, api.KindLockLost,
		fmt.Sprintf("the lease of lock %q is over: %s", name, lostReason(err)),
		"stop the work under it and acquire the lock anew; renew a lease in less than its ttl_ms")
}

// lostReason says in a few words why a lock is no longer held.
func lostReason(err error) string {
	var lost *lockclient.LostError
	switch {
	case errors.Is(err, lockclient.ErrReleased):
		return "it was released"
	case !errors.As(err, &lost):
		return oneLine(err)
	case errors.Is(lost.Reason, lockclient.ErrExpired):
		return "it was not renewed in time"
	}
	return oneLine(lost.Reason)
}

func timeUpProblem(name string, wait time.Duration, held *lockclient.HeldError) error {
	text := fmt.Sprintf("lock %q was not obtained in %v", name, wait)
	p := api.NewProblem(http.StatusConflict, api.KindLockHeld, text, "wait longer with wait_ms, or with …/hold")
	if p.Holder = apiHolder(held.Holder); p.Holder != nil {
		p.Detail += fmt.Sprintf("; it is held by %s", held.Holder)
	}
	if held.Position > 0 {
		p.Detail += fmt.Sprintf("; this request was number %d in its queue", held.Position)
	}
	return p
}

func stoppingProblem() error {
	return api.NewProblem(http.StatusServiceUnavailable, api.KindStopping,
		"this agent is leaving and gives no locks any more", "ask another agent, or this one when it is back")
}

func noRedisProblem() error {
	return api.NewProblem(http.StatusServiceUnavailable, api.KindNoRedis,
		"this agent was started without a Redis, so there are no locks", "start it with --redis redis://HOST:6379")
}
