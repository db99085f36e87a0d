package keyserver

import (
	"context"
	"errors"
	"net"
	"time"

	"github.com/ovh/kmip-go"
	"github.com/ovh/kmip-go/kmipserver"
	"github.com/ovh/kmip-go/payloads"
	"github.com/ovh/kmip-go/ttlv"
)

// serveKMIPGo answers one connection by kmip-go's codec and batch executor.
// Its server's own loop is not used: it sends on a channel that a connection
// closed in mid-answer has closed, and that panics.
func (s *Server) serveKMIPGo(conn net.Conn, line *line) {
	h := &handler{store: s.store, rules: s.config.Behaviour}
	exec := kmipserver.NewBatchExecutor()
	if len(h.rules.Versions) > 0 {
		exec.SetSupportedProtocolVersions(parseVersions(h.rules.Versions)...)
	}
	exec.Use(h.message)
	exec.Route(kmip.OperationLocate, kmipserver.HandleFunc(h.locate))
	exec.Route(kmip.OperationGetAttributes, kmipserver.HandleFunc(h.attributes))
	exec.Route(kmip.OperationGet, kmipserver.HandleFunc(h.get))
	exec.Route(kmip.OperationQuery, kmipserver.HandleFunc(h.query))
	if h.rules.NoDiscover {
		exec.Route(kmip.OperationDiscoverVersions, kmipserver.HandleFunc(h.noDiscover))
	}
	stream := ttlv.NewStream(conn, maxRequest)
	for {
		var req kmip.RequestMessage
		if err := stream.Recv(&req); err != nil {
			return
		}
		resp := exec.HandleRequest(s.ctx, &req)
		if h.hungUp {
			return
		}
		if !line.say(ttlv.MarshalTTLV(resp)) {
			return
		}
	}
}

type handler struct {
	store    *store
	rules    Behaviour
	answered int
	hungUp   bool // the connection ends instead of an answer
}

func (h *handler) message(next kmipserver.Next, ctx context.Context, req *kmip.RequestMessage) (*kmip.ResponseMessage, error) {
	h.store.emit(Event{Event: "kmip", Op: "message", Server: h.store.server, Items: len(req.BatchItem)})
	if h.rules.HangUpAfter > 0 && h.answered >= h.rules.HangUpAfter {
		h.hungUp = true
		return nil, kmipserver.ErrInvalidMessage
	}
	h.answered++
	limit := h.rules.BatchLimit
	if limit == 0 || len(req.BatchItem) <= limit {
		return next(ctx, req)
	}
	switch h.rules.BatchAnswer {
	case "hang-up":
		h.hungUp = true
		return nil, kmipserver.ErrInvalidMessage
	case "too-large":
		resp, err := next(ctx, req)
		for i := limit; err == nil && i < len(resp.BatchItem); i++ {
			resp.BatchItem[i] = kmip.ResponseBatchItem{
				Operation: resp.BatchItem[i].Operation, UniqueBatchItemID: resp.BatchItem[i].UniqueBatchItemID,
				ResultStatus: kmip.ResultStatusOperationFailed, ResultReason: kmip.ResultReasonResponseTooLarge,
			}
		}
		return resp, err
	}
	return nil, kmipserver.Errorf(kmip.ResultReasonInvalidMessage, "batch is too large")
}

func (h *handler) noDiscover(context.Context, *payloads.DiscoverVersionsRequestPayload) (*payloads.DiscoverVersionsResponsePayload, error) {
	h.store.tell("discover", "")
	return nil, kmipserver.ErrOperationNotSupported
}

func (h *handler) query(context.Context, *payloads.QueryRequestPayload) (*payloads.QueryResponsePayload, error) {
	h.store.tell("query", "")
	return &payloads.QueryResponsePayload{VendorIdentification: h.rules.Vendor}, nil
}

func (h *handler) locate(_ context.Context, req *payloads.LocateRequestPayload) (*payloads.LocateResponsePayload, error) {
	var conditions []condition
	for _, a := range req.Attribute {
		c := condition{name: string(a.AttributeName)}
		switch v := a.AttributeValue.(type) {
		case kmip.Name:
			c.value = v.NameValue
		case kmip.ObjectType:
			c.value = typeByNumber(uint32(v))
		case string:
			c.value = v
		case ttlv.Value:
			c.value, _ = v.Value.(string)
		}
		conditions = append(conditions, c)
	}
	ids, err := h.store.locate(conditions)
	return &payloads.LocateResponsePayload{UniqueIdentifier: ids}, kmipError(err)
}

func (h *handler) attributes(_ context.Context, req *payloads.GetAttributesRequestPayload) (*payloads.GetAttributesResponsePayload, error) {
	var names []string
	for _, n := range req.AttributeName {
		names = append(names, string(n))
	}
	o, names, err := h.store.describe(req.UniqueIdentifier, names)
	if err != nil {
		return nil, kmipError(err)
	}
	resp := &payloads.GetAttributesResponsePayload{UniqueIdentifier: o.ID}
	for _, n := range names {
		if v := attributeFor(o, n); v != nil {
			resp.Attribute = append(resp.Attribute, kmip.Attribute{AttributeName: kmip.AttributeName(n), AttributeValue: v})
		}
	}
	return resp, nil
}

func attributeFor(o Object, name string) any {
	switch {
	case name == "Name" && o.Name != "":
		return kmip.Name{NameValue: o.Name, NameType: kmip.NameTypeUninterpretedTextString}
	case name == "Object Type":
		return kmip.ObjectType(o.typeNumber())
	case name == "State" && o.stateNumber() != 0:
		return kmip.State(o.stateNumber())
	case name == "Object Group" && o.Group != "":
		return o.Group
	case name == "Initial Date" && o.Initial != 0:
		return time.Unix(o.Initial, 0)
	}
	if v, ok := o.Attributes[name]; ok {
		return v
	}
	return nil
}

func (h *handler) get(_ context.Context, req *payloads.GetRequestPayload) (*payloads.GetResponsePayload, error) {
	o, key, err := h.store.get(req.UniqueIdentifier)
	if errors.Is(err, errHangUp) {
		h.hungUp = true
	}
	if err != nil {
		return nil, kmipError(err)
	}
	return &payloads.GetResponsePayload{ObjectType: kmip.ObjectType(o.typeNumber()), UniqueIdentifier: o.ID, Object: objectFor(o, key)}, nil
}

func objectFor(o Object, key []byte) kmip.Object {
	block := kmip.KeyBlock{KeyFormatType: kmip.KeyFormatType(o.formatNumber()), KeyValue: &kmip.KeyValue{Plain: &kmip.PlainKeyValue{KeyMaterial: kmip.KeyMaterial{Bytes: &key}}}}
	if block.KeyFormatType == kmip.KeyFormatTypeTransparentSymmetricKey {
		block.KeyValue.Plain.KeyMaterial = kmip.KeyMaterial{TransparentSymmetricKey: &kmip.TransparentSymmetricKey{Key: key}}
	}
	if o.Wrapped {
		block.KeyValue = &kmip.KeyValue{Wrapped: &key}
		block.KeyWrappingData = &kmip.KeyWrappingData{WrappingMethod: kmip.WrappingMethodEncrypt, EncryptionKeyInformation: &kmip.EncryptionKeyInformation{UniqueIdentifier: "kek"}}
	}
	switch o.typeName() {
	case "SymmetricKey":
		block.CryptographicAlgorithm, block.CryptographicLength = kmip.CryptographicAlgorithmAES, int32(len(key)*8)
		return &kmip.SymmetricKey{KeyBlock: block}
	case "OpaqueObject":
		return &kmip.OpaqueObject{OpaqueDataType: 0x80000001, OpaqueDataValue: key}
	case "PrivateKey":
		return &kmip.PrivateKey{KeyBlock: block}
	}
	return &kmip.SecretData{SecretDataType: kmip.SecretDataTypePassword, KeyBlock: block}
}

func kmipError(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, errNotFound):
		return kmipserver.ErrItemNotFound
	case errors.Is(err, errDenied):
		return kmipserver.ErrPermissionDenied
	case errors.Is(err, errInvalidField):
		return kmipserver.ErrInvalidField
	case errors.Is(err, errUnsupported):
		return kmipserver.ErrOperationNotSupported
	}
	return kmipserver.Errorf(kmip.ResultReasonGeneralFailure, "%v", err)
}

func parseVersions(names []string) []kmip.ProtocolVersion {
	var out []kmip.ProtocolVersion
	for _, n := range names {
		if len(n) == 3 {
			out = append(out, kmip.ProtocolVersion{ProtocolVersionMajor: int32(n[0] - '0'), ProtocolVersionMinor: int32(n[2] - '0')})
		}
	}
	return out
}
