package httpapi

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"time"

	"github.com/peerhq/peer/agent/api"
)

// A serviceFilter lets instances through. The zero filter lets all.
type serviceFilter struct {
	eligible bool
	tag      string
}

func (q query) serviceFilter() (serviceFilter, *api.Problem) {
	var f serviceFilter
	var p *api.Problem
	if f.eligible, p = q.flag("eligible"); p != nil {
		return f, p
	}
	f.tag, p = q.one("service_tag")
	return f, p
}

func (f serviceFilter) lets(i api.ServiceInstance) bool {
	return (!f.eligible || i.Eligible) && (f.tag == "" || slices.Contains(i.Tags, f.tag))
}

func (s *Server) serveServices(w http.ResponseWriter, r *http.Request, q query) {
	f, p := q.serviceFilter()
	if p == nil {
		p = s.awaitServices(w, r, q, "")
	}
	if p != nil {
		writeProblem(w, r, p)
		return
	}
	doc := s.agent.Services()
	groups := make([]api.ServiceGroup, 0, len(doc.Services))
	for _, g := range doc.Services {
		if g = tidyGroup(g, f); len(g.Instances) > 0 {
			groups = append(groups, g)
		}
	}
	doc.Services = groups
	w.Header().Set("X-Peer-Index", strconv.FormatUint(doc.Index, 10))
	writeJSON(w, r, doc)
}

func (s *Server) serveService(w http.ResponseWriter, r *http.Request, q query) {
	name := r.PathValue("name")
	f, p := q.serviceFilter()
	if p == nil {
		p = s.awaitServices(w, r, q, name)
	}
	if p != nil {
		writeProblem(w, r, p)
		return
	}
	doc := s.agent.Services()
	names := make([]string, len(doc.Services))
	for i, g := range doc.Services {
		names[i] = g.Name
		if g.Name == name {
			w.Header().Set("X-Peer-Index", strconv.FormatUint(g.Index, 10))
			writeJSON(w, r, tidyGroup(g, f))
			return
		}
	}
	fix := "see /v1/services for those that are known here"
	if near := nearestOf(name, names); near != "" {
		fix = fmt.Sprintf("did you mean %q?", near)
	}
	// With an index, so that a client may wait for the service to come.
	w.Header().Set("X-Peer-Index", strconv.FormatUint(doc.Index, 10))
	writeProblem(w, r, api.NewProblem(http.StatusNotFound, api.KindNoService, fmt.Sprintf("no host runs a service %q", name), fix))
}

// awaitServices blocks as long as q asks for, until the service called name, or
// any if it is empty, has changed. A time-out is no error: the answer is then
// the same as before.
func (s *Server) awaitServices(w http.ResponseWriter, r *http.Request, q query, name string) *api.Problem {
	b, p := q.blocking()
	if p != nil || !b.on || b.wait == 0 {
		return p
	}
	if !s.blocked.take() {
		return api.NewProblem(http.StatusServiceUnavailable, api.KindTooManyStreams,
			fmt.Sprintf("%d reads wait for a change already", cap(s.blocked)), "follow /v1/events instead, or ask without index")
	}
	defer s.blocked.give()
	ctx, done := s.untilStop(r.Context())
	defer done()
	ctx, cancel := context.WithTimeout(ctx, b.wait)
	defer cancel()
	_ = s.agent.ServicesChanged(ctx, name, b.index) // only ever the error of ctx, or of an agent that stops
	_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(writeTimeout))
	return nil
}

func (s *Server) serveRegister(w http.ResponseWriter, r *http.Request, _ query) {
	var reg api.Registration
	p := readBody(r, &reg)
	if p == nil {
		p = s.changed(s.agent.Register(r.Context(), r.PathValue("name"), reg))
	}
	s.answerChange(w, r, p)
}

func (s *Server) serveDeregister(w http.ResponseWriter, r *http.Request, _ query) {
	p := readBody(r, &struct{}{})
	if p == nil {
		p = s.changed(s.agent.Deregister(r.Context(), r.PathValue("name")))
	}
	s.answerChange(w, r, p)
}

func (s *Server) serveDrain(w http.ResponseWriter, r *http.Request, _ query) {
	var req struct {
		Draining *bool `json:"draining"`
	}
	p := readBody(r, &req)
	if p == nil && req.Draining == nil {
		p = badRequest(`send {"draining":true} or {"draining":false}`, "the body does not say draining")
	}
	if p == nil {
		p = s.changed(s.agent.Drain(r.Context(), r.PathValue("name"), *req.Draining))
	}
	s.answerChange(w, r, p)
}

func (s *Server) servePass(w http.ResponseWriter, r *http.Request, _ query) {
	var req api.PassRequest
	p := readBody(r, &req)
	if p == nil {
		p = s.changed(s.agent.Pass(r.Context(), r.PathValue("name"), req))
	}
	s.answerChange(w, r, p)
}

func (s *Server) serveReport(w http.ResponseWriter, r *http.Request, _ query) {
	// Whether it went well must be said: a report that forgets it is no failure.
	var req struct {
		api.NextReport
		OK *bool `json:"ok"`
	}
	p := readBody(r, &req)
	if p == nil && (req.OK == nil || req.Name == "") {
		p = badRequest(`send {"name":"NAME","service":"SERVICE","ok":true,"latency_ms":12}`, "the body does not say name and ok")
	}
	if p == nil {
		req.NextReport.OK = *req.OK
		p = s.changed(s.agent.Report(req.NextReport))
	}
	s.answerChange(w, r, p)
}

func (s *Server) changed(err error) *api.Problem {
	if err == nil {
		return nil
	}
	return asProblem(err, http.StatusInternalServerError, api.KindInternal, "see the agent's log")
}

// answerChange says that a change was made, or why not.
func (s *Server) answerChange(w http.ResponseWriter, r *http.Request, p *api.Problem) {
	if p != nil {
		writeProblem(w, r, p)
		return
	}
	writeJSON(w, r, struct{}{})
}

// tidyGroup keeps of g what f lets through, on a copy.
func tidyGroup(g api.ServiceGroup, f serviceFilter) api.ServiceGroup {
	instances := make([]api.ServiceInstance, 0, len(g.Instances))
	for _, i := range g.Instances {
		if f.lets(i) {
			i.Tags, i.Meta, i.NodeTags = orEmpty(i.Tags), orEmptyMap(i.Meta), orEmptyMap(i.NodeTags)
			instances = append(instances, i)
		}
	}
	g.Instances, g.Tags = instances, orEmpty(g.Tags)
	return g
}
