package agent

import (
	"context"
	"errors"
	"fmt"
	"net/http"

	"github.com/peerhq/peer/agent/api"
	"github.com/peerhq/peer/agent/checks"
)

// Register announces a service of this host, or replaces what was registered by
// its name, and returns when this agent shows it. A mistake, and a data dir
// that does not take it, is an *api.Problem; then nothing is changed.
func (a *Agent) Register(ctx context.Context, name string, r api.Registration) error {
	s, err := registered(name, r)
	if err != nil {
		return badService(err)
	}
	return a.register(ctx, name, func(old service, known bool) (*service, error) {
		if known && old.fixed {
			return nil, errFixed
		}
		return &s, nil
	})
}

// Deregister takes back what was registered while the agent runs.
func (a *Agent) Deregister(ctx context.Context, name string) error {
	return a.register(ctx, name, func(old service, known bool) (*service, error) {
		switch {
		case !known:
			return nil, errNoService
		case old.fixed:
			return nil, errFixed
		}
		return nil, nil
	})
}

// Drain takes a service of this host out of every host's rotation, or puts it
// back. That is kept over a restart.
func (a *Agent) Drain(ctx context.Context, name string, draining bool) error {
	return a.register(ctx, name, func(old service, known bool) (*service, error) {
		if !known {
			return nil, errNoService
		}
		old.announced.Draining = draining
		return &old, nil
	})
}

func (a *Agent) register(ctx context.Context, name string, f func(old service, known bool) (*service, error)) error {
	if err := a.registry.change(name, f); err != nil {
		return serviceProblem(name, err)
	}
	a.show(ctx, name)
	return nil
}

// Pass is a service's own sign of life. It returns when this agent shows it.
func (a *Agent) Pass(ctx context.Context, name string, p api.PassRequest) error {
	switch p.Health {
	case "":
		p.Health = checks.Passing
	case checks.Passing, checks.Warning, checks.Critical:
	default:
		return api.NewProblem(http.StatusBadRequest, api.KindBadRequest, fmt.Sprintf("health %q", clip(p.Health)), "want passing, warning or critical")
	}
	if len(p.Output) > 500 {
		p.Output = p.Output[:500]
	}
	err := a.registry.checks.Pass(name, p.Health, oneLine(errors.New(p.Output)))
	if errors.Is(err, checks.ErrUnknown) && a.registry.local(name) != nil {
		err = checks.ErrNotTTL // registered without any check
	}
	if err != nil {
		return serviceProblem(name, err)
	}
	a.show(ctx, name)
	return nil
}

// show returns when this agent's own View shows the services as they are.
func (a *Agent) show(ctx context.Context, name string) {
	a.announcer.changed()
	// The change is made; that it is not shown yet is no failure.
	if err := a.announcer.shown(ctx); err != nil {
		a.logger.Debug("show a service", "service", name, "err", err)
	}
}

func badService(err error) error {
	return api.NewProblem(http.StatusBadRequest, api.KindBadRequest, oneLine(err), "see /openapi.json for the shape; nothing was registered")
}

func serviceProblem(name string, err error) error {
	name = clip(name)
	switch {
	case errors.Is(err, errNoService), errors.Is(err, checks.ErrUnknown):
		return api.NewProblem(http.StatusNotFound, api.KindNoService, fmt.Sprintf("no service %q is registered on this host", name),
			"see `peer services --local` for those of this host; another host's are changed by its own agent")
	case errors.Is(err, errFixed):
		return api.NewProblem(http.StatusConflict, api.KindServiceFixed, fmt.Sprintf("the service %q stands in the agent's configuration", name),
			"change it there and restart the agent, or drain it")
	case errors.Is(err, checks.ErrNotTTL):
		return api.NewProblem(http.StatusConflict, api.KindNotTTL, fmt.Sprintf("the service %q is not checked by ttl", name),
			"register it with a ttl, or leave it to its check")
	case errors.Is(err, errNotKept):
		return api.NewProblem(http.StatusInternalServerError, api.KindNotKept, oneLine(err),
			"make room in the agent's data dir, or mend its rights; nothing was changed")
	}
	return badService(err)
}
