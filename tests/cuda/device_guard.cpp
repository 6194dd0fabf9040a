// Indexing asks for the guard of a tensor's device; a torch built without CUDA has none, so here is one that does nothing.
#include <c10/core/impl/DeviceGuardImplInterface.h>

using Guard = c10::impl::NoOpDeviceGuardImpl<c10::DeviceType::CUDA>;
C10_REGISTER_GUARD_IMPL(CUDA, Guard)
