"""CloudFormation knows AWS::Logs::QueryDefinition: a saved query of Logs Insights.

MiniStack 1.5.33 refuses a template with one ("Unrecognized resource types"). Nothing reads saved queries here, so they get an id and are not kept.
"""

import uuid

from ministack.services.cloudformation import provisioners


def apply():
    def create(logical_id, props, stack):
        query = str(uuid.uuid4())
        return query, {"QueryDefinitionId": query}

    provisioners._RESOURCE_HANDLERS["AWS::Logs::QueryDefinition"] = {
        "create": create,
        "update": lambda physical_id, old, new, stack, logical_id=None: (physical_id, {"QueryDefinitionId": physical_id}),
        "delete": lambda physical_id, props: None,
    }
