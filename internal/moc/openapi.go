// SPDX-License-Identifier: Apache-2.0

package moc

import (
	"encoding/json"
	"net/http"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"sealift/cose"
	"sealift/internal/fault"
	"sealift/internal/moc/mocapi"
)

// openapi serves the description of the REST interface.
func (s *Server) openapi(*call) (any, error) { return Description(), nil }

// Description returns the OpenAPI 3.1 document of the REST interface. It is made from the table of routes and from the Go
// types of package mocapi, so it cannot say something else than the server does; a golden file shows what it says.
func Description() map[string]any {
	schemas := &schemaSet{named: map[string]any{}}
	paths := map[string]any{}
	for _, rt := range routes {
		item, _ := paths[rt.pattern].(map[string]any)
		if item == nil {
			item = map[string]any{}
			paths[rt.pattern] = item
		}
		item[strings.ToLower(rt.method)] = rt.operation(schemas)
	}
	schemas.named["Problem"] = problemSchema()
	return map[string]any{
		"openapi": "3.1.0",
		"info": map[string]any{
			"title":       "Sealift M/OC",
			"version":     "1",
			"description": "How data owners ask for confidential resources, devices' Brokers get their work, and operators look on. TEEP (/tam/), the OCI registry (/v2/) follow their own specifications.",
			"license":     map[string]any{"name": "Apache-2.0", "identifier": "Apache-2.0"},
		},
		"paths": paths,
		"components": map[string]any{
			"schemas":         schemas.named,
			"securitySchemes": map[string]any{"bearer": map[string]any{"type": "http", "scheme": "bearer"}},
		},
	}
}

var pathParam = regexp.MustCompile(`\{(\w+)\}`)

func (rt route) operation(schemas *schemaSet) map[string]any {
	op := map[string]any{"operationId": rt.name, "summary": rt.summary, "responses": rt.responses(schemas)}
	var params []any
	for _, m := range pathParam.FindAllStringSubmatch(rt.pattern, -1) {
		params = append(params, map[string]any{"name": m[1], "in": "path", "required": true, "schema": map[string]any{"type": "string"}})
	}
	for _, p := range rt.query {
		params = append(params, map[string]any{"name": p.name, "in": "query", "description": p.description, "schema": map[string]any{"type": p.schema}})
	}
	if params != nil {
		op["parameters"] = params
	}
	if rt.roles != nil {
		op["security"] = []any{map[string]any{"bearer": []string{}}}
		op["x-roles"] = rt.roles
	}
	if rt.request != nil {
		op["requestBody"] = map[string]any{"required": true, "content": map[string]any{
			"application/json": map[string]any{"schema": schemas.of(reflect.TypeOf(rt.request))}}}
	}
	return op
}

func (rt route) responses(schemas *schemaSet) map[string]any {
	ok := map[string]any{"description": rt.summary}
	switch {
	case rt.answer != nil:
		ok["content"] = map[string]any{"application/json": map[string]any{"schema": schemas.of(reflect.TypeOf(rt.answer))}}
	case rt.name == "payload":
		ok["content"] = map[string]any{"application/octet-stream": map[string]any{}}
	case rt.status != http.StatusNoContent:
		ok["content"] = map[string]any{"application/json": map[string]any{}}
	}
	out := map[string]any{strconv.Itoa(rt.status): ok}
	codes := rt.faults
	if rt.roles != nil {
		codes = append([]string{fault.Unauthorized, fault.Forbidden}, codes...)
	}
	if rt.request != nil {
		codes = append(codes, fault.BadRequest, fault.UnsupportedMedia, fault.TooLarge)
	}
	byStatus := map[string][]string{}
	for _, code := range codes {
		status := strconv.Itoa(fault.Status(code))
		byStatus[status] = append(byStatus[status], code)
	}
	for status, list := range byStatus {
		out[status] = map[string]any{"description": "codes: " + strings.Join(list, ", "), "content": map[string]any{
			"application/problem+json": map[string]any{"schema": ref("Problem")}}}
	}
	return out
}

func ref(name string) map[string]any {
	return map[string]any{"$ref": "#/components/schemas/" + name}
}

func problemSchema() map[string]any {
	var codes []string
	for code := range fault.Codes() {
		codes = append(codes, code)
	}
	return map[string]any{"type": "object", "description": "RFC 9457 problem details", "properties": map[string]any{
		"type": map[string]any{"type": "string"}, "title": map[string]any{"type": "string"}, "status": map[string]any{"type": "integer"},
		"detail": map[string]any{"type": "string"}, "hint": map[string]any{"type": "string"}, "details": map[string]any{},
		"code": map[string]any{"type": "string", "enum": sorted(codes)},
	}, "required": []string{"type", "title", "status", "detail", "code"}}
}

// schemaSet makes JSON schemas of Go types, as encoding/json writes them.
type schemaSet struct{ named map[string]any }

var (
	timeType  = reflect.TypeFor[time.Time]()
	keyType   = reflect.TypeFor[cose.Key]()
	faultType = reflect.TypeFor[fault.Error]()
	rawType   = reflect.TypeFor[json.RawMessage]()
	roleType  = reflect.TypeFor[mocapi.Role]()
)

func (s *schemaSet) of(t reflect.Type) map[string]any {
	switch t {
	case timeType:
		return map[string]any{"type": "string", "format": "date-time"}
	case keyType:
		return map[string]any{"type": "string", "description": "a COSE_Key (RFC 9052), base64url without padding"}
	case faultType:
		return ref("Problem")
	case rawType:
		return map[string]any{}
	case roleType:
		return map[string]any{"type": "string", "enum": []mocapi.Role{mocapi.RoleOperator, mocapi.RoleOwner, mocapi.RoleDevice}}
	}
	switch t.Kind() {
	case reflect.Pointer:
		return s.of(t.Elem())
	case reflect.Bool:
		return map[string]any{"type": "boolean"}
	case reflect.String:
		return map[string]any{"type": "string"}
	case reflect.Slice:
		if t.Elem().Kind() == reflect.Uint8 {
			return map[string]any{"type": "string", "contentEncoding": "base64"}
		}
		return map[string]any{"type": "array", "items": s.of(t.Elem())}
	case reflect.Map:
		return map[string]any{"type": "object", "additionalProperties": s.of(t.Elem())}
	case reflect.Struct:
		return s.object(t)
	case reflect.Int, reflect.Int64, reflect.Uint, reflect.Uint64:
		return map[string]any{"type": "integer"}
	}
	return map[string]any{}
}

func (s *schemaSet) object(t reflect.Type) map[string]any {
	if _, done := s.named[t.Name()]; !done {
		s.named[t.Name()] = nil // a type may hold itself
		properties, required := map[string]any{}, []string{}
		for _, f := range reflect.VisibleFields(t) {
			name, options, _ := strings.Cut(f.Tag.Get("json"), ",")
			if f.Anonymous || !f.IsExported() || name == "-" || name == "" {
				continue
			}
			properties[name] = s.of(f.Type)
			if !strings.Contains(options, "omit") {
				required = append(required, name)
			}
		}
		s.named[t.Name()] = map[string]any{"type": "object", "properties": properties, "required": sorted(required)}
	}
	return ref(t.Name())
}

func sorted(list []string) []string {
	out := slices.Clone(list)
	slices.Sort(out)
	return out
}
